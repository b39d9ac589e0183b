//! Access lists and password tables as Python makes them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::policy::{self, HashParameters};

/// A compiled `vmq.acl`.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct AccessList(pub policy::AccessList);

#[pymethods]
impl AccessList {
    #[staticmethod]
    #[pyo3(signature = (text, *, topic_max_depth=0))]
    fn parse(py: Python<'_>, text: &[u8], topic_max_depth: usize) -> (Self, Vec<String>) {
        let (list, remarks) = py.detach(|| policy::AccessList::parse(text, topic_max_depth));
        (Self(list), remarks)
    }

    #[getter]
    fn rules(&self) -> usize {
        self.0.rules()
    }

    fn may_publish(&self, mountpoint: &str, client_id: &str, username: Option<&str>, topic: &str) -> bool {
        self.0.may_publish(policy::Asker { mountpoint, client_id, username }, topic)
    }

    fn may_subscribe(&self, mountpoint: &str, client_id: &str, username: Option<&str>, topic_filter: &str) -> bool {
        self.0.may_subscribe(policy::Asker { mountpoint, client_id, username }, topic_filter)
    }
}

/// A compiled password file.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct PasswordTable(pub policy::PasswordTable);

#[pymethods]
impl PasswordTable {
    #[staticmethod]
    fn parse(py: Python<'_>, text: &[u8]) -> (Self, Vec<String>) {
        let (table, remarks) = py.detach(|| policy::PasswordTable::parse(text));
        (Self(table), remarks)
    }

    #[getter]
    fn users(&self) -> usize {
        self.0.users()
    }

    fn is_slow(&self, username: &str) -> bool {
        self.0.credential(username).is_some_and(|credential| credential.is_slow())
    }

    #[pyo3(signature = (username, password))]
    fn check(&self, py: Python<'_>, username: Option<&str>, password: Option<&[u8]>) -> Option<bool> {
        let (username, password) = username.zip(password)?;
        let credential = self.0.credential(username)?;
        Some(if credential.is_slow() { py.detach(|| credential.verify(password)) } else { credential.verify(password) })
    }
}

/// The hash of a new password.
#[pyfunction]
#[pyo3(signature = (password, *, memory_kib=19_456, passes=2, lanes=1))]
pub fn hash_password(py: Python<'_>, password: &[u8], memory_kib: u32, passes: u32, lanes: u32) -> PyResult<String> {
    let hashed = py.detach(|| policy::hash_password(password, HashParameters { memory_kib, passes, lanes }));
    hashed.map_err(PyValueError::new_err)
}
