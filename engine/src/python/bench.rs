//! The load generator as a Python object.

use std::time::Duration;

use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use crate::bench::{Given, Options, Run, Value};

/// A load generator: options that were checked, and the run once it is started.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct Bench {
    state: Mutex<State>,
}

enum State {
    Checked(Box<Options>),
    Started(Run),
}

/// The longest wait of one call; a caller that wants more calls again.
const WAIT_MAX_MS: u64 = 3_600_000;

#[pymethods]
impl Bench {
    #[new]
    fn new(workload: &str, options: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut given = Vec::new();
        for item in options.call_method0("items")?.try_iter()? {
            let (name, value): (String, Bound<'_, PyAny>) = item?.extract()?;
            // None stands for the default, as an option that is not on the command line.
            if !value.is_none() {
                let value = given_value(&name, &value)?;
                given.push((name, value));
            }
        }
        let options = Options::new(workload, &given).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { state: Mutex::new(State::Checked(Box::new(options))) })
    }

    fn start(&self) -> PyResult<()> {
        let mut state = self.state.lock();
        let State::Checked(options) = &*state else {
            return Err(PyRuntimeError::new_err("the run was started before"));
        };
        let run = Run::start(Options::clone(options)).map_err(|error| PyOSError::new_err(error.to_string()))?;
        *state = State::Started(run);
        Ok(())
    }

    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let progress = self.started(|run| Ok(run.progress()))?;
        let counters = PyDict::new(py);
        counters.set_item("connected", progress.connected)?;
        counters.set_item("sent", progress.sent)?;
        counters.set_item("received", progress.received)?;
        counters.set_item("elapsed_s", Duration::from_nanos(progress.elapsed).as_secs_f64())?;
        Ok(counters)
    }

    fn wait(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<bool> {
        let waiting = self.started(|run| Ok(run.handle()))?;
        Ok(py.detach(|| waiting.wait(Duration::from_millis(timeout_ms.min(WAIT_MAX_MS)))))
    }

    fn stop(&self) -> PyResult<()> {
        self.started(|run| {
            run.stop();
            Ok(())
        })
    }

    fn report<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let report = self.started(|run| Ok(run.report()))?;
        match report {
            Some(report) => to_python(py, &report),
            None => Err(PyRuntimeError::new_err("the run has not ended: wait() says when it has")),
        }
    }
}

impl Bench {
    fn started<T>(&self, what: impl FnOnce(&Run) -> PyResult<T>) -> PyResult<T> {
        match &*self.state.lock() {
            State::Started(run) => what(run),
            State::Checked(_) => Err(PyRuntimeError::new_err("the run has not been started: call start()")),
        }
    }
}

fn given_value(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Given> {
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Given::Flag(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        let number = value.extract().map_err(|_| PyValueError::new_err(format!("{name}: {value} is out of range")))?;
        return Ok(Given::Integer(number));
    }
    if value.is_instance_of::<PyFloat>() {
        return Ok(Given::Number(value.extract()?));
    }
    if value.is_instance_of::<PyString>() {
        return Ok(Given::Text(value.extract()?));
    }
    Err(PyValueError::new_err(format!("{name}: expected a number, text, True or False")))
}

fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Integer(number) => PyInt::new(py, *number).into_any(),
        Value::Number(number) => PyFloat::new(py, *number).into_any(),
        Value::Text(text) => PyString::new(py, text).into_any(),
        Value::Flag(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::List(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(to_python(py, value)?)?;
            }
            list.into_any()
        }
        Value::Map(entries) => {
            let dict = PyDict::new(py);
            for (name, value) in entries {
                dict.set_item(*name, to_python(py, value)?)?;
            }
            dict.into_any()
        }
    })
}
