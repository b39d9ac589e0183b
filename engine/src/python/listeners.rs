//! Listeners as Python opens them: keyword arguments to terms, and what is done with an open one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::exceptions::{PyOSError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator};

use crate::net::{Address, Forwarded, Kind, ListenerOptions, ListenerState, SocketOptions, Workers, bind};
use crate::policy::AccessCell;
use crate::protocol::SessionLimits;
use crate::protocol::connect::Admission;
use crate::transport::tls::TlsConfig as Tls;
use crate::transport::websocket::upgrade::UpgradeLimits;

use super::tls::TlsConfig;

/// Greatest length of a request line or a header value; the whole request is bounded beside that.
const HTTP_LENGTH_MAX: u64 = 1 << 20;

/// Keyword arguments that are taken one by one; what is left over at the end is unknown.
struct Keywords<'py> {
    given: Bound<'py, PyDict>,
}

impl<'py> Keywords<'py> {
    fn of(given: Option<&Bound<'py, PyDict>>, py: Python<'py>) -> PyResult<Self> {
        Ok(Self { given: given.map_or_else(|| Ok(PyDict::new(py)), PyDictMethods::copy)? })
    }

    /// The value of a name, if it is given. An error names it.
    fn take<T>(&self, name: &str) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        let Some(value) = self.given.get_item(name)? else { return Ok(None) };
        self.given.del_item(name)?;
        let extracted = value.extract::<T>().map_err(Into::<PyErr>::into);
        extracted.map(Some).map_err(|error| PyValueError::new_err(format!("{name}: {}", error.value(self.given.py()))))
    }

    /// The value of a name where `None` stands for none.
    fn take_optional<T>(&self, name: &str, default: Option<T>) -> PyResult<Option<T>>
    where
        T: for<'a> FromPyObject<'a, 'py, Error: Into<PyErr>>,
    {
        Ok(self.take::<Option<T>>(name)?.unwrap_or(default))
    }

    fn number(&self, name: &str, default: u64, least: u64, most: u64) -> PyResult<u64> {
        let Some(number) = self.take::<i64>(name)? else { return Ok(default) };
        let number = u64::try_from(number).ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| PyValueError::new_err(format!("{name}: expected a number from {least} to {most}")))
    }

    fn optional_number(&self, name: &str, least: u64, most: u64) -> PyResult<Option<u64>> {
        match self.given.get_item(name)? {
            Some(value) if value.is_none() => {
                self.given.del_item(name)?;
                Ok(None)
            }
            Some(_) => self.number(name, 0, least, most).map(Some),
            None => Ok(None),
        }
    }

    fn flag(&self, name: &str, default: bool) -> PyResult<bool> {
        Ok(self.take(name)?.unwrap_or(default))
    }

    fn finish(&self) -> PyResult<()> {
        match self.given.keys().get_item(0) {
            Ok(name) => Err(PyTypeError::new_err(format!(
                "open_listener() got an unexpected keyword argument {}",
                name.repr()?
            ))),
            Err(_) => Ok(()),
        }
    }
}

/// Everything that `open_listener` was told.
pub struct Wanted {
    options: ListenerOptions,
    socket: SocketOptions,
    address: Address,
    tls: Option<Tls>,
}

impl Wanted {
    /// Reads and checks the arguments of `open_listener`. `access`: of the listener of that name.
    pub fn read(
        (name, kind, address, port): (&str, &str, &str, u16),
        keywords: Option<&Bound<'_, PyDict>>,
        access: Arc<AccessCell>,
        py: Python<'_>,
    ) -> PyResult<Self> {
        let kind = Kind::by_name(kind)
            .ok_or_else(|| PyValueError::new_err(format!("kind: expected tcp, ssl, ws or wss, got {kind:?}")))?;
        if name.starts_with('$') {
            return Err(PyValueError::new_err(format!(
                "name: {name:?} begins with $, as only parts of the broker may"
            )));
        }
        let address = read_address(kind, address, port)?;
        let keywords = Keywords::of(keywords, py)?;
        let tls = read_tls(kind, &keywords)?;
        let is_websocket = kind.is_websocket();
        let forwarded = read_forwarded(&keywords)?;
        if forwarded.is_some() && !is_websocket {
            return Err(PyValueError::new_err("proxy_xff: only ws and wss listeners have HTTP headers"));
        }
        let options = ListenerOptions {
            name: name.into(),
            kind,
            admission: Admission {
                mountpoint: keywords.take::<String>("mountpoint")?.unwrap_or_default().into(),
                protocol_versions: read_levels(&keywords)?,
                allow_anonymous: keywords.take_optional("allow_anonymous", None)?,
                listener: name.into(),
                access,
                limits: SessionLimits::default(),
            },
            connections_max: keywords.take_optional("max_connections", Some(10_000))?,
            connection_rate: keywords
                .optional_number("max_connection_rate", 1, u32::MAX.into())?
                .map(|rate| u32::try_from(rate).unwrap_or(u32::MAX)),
            lifetime_ms: keywords.number("max_connection_lifetime", 0, 0, u64::from(u32::MAX))? * 1_000,
            identity_is_username: keywords.flag("use_identity_as_username", false)?,
            tls_handshake_ms: keywords.number("tls_handshake_timeout", 5_000, 1, u64::from(u32::MAX))?,
            expects_proxy_header: keywords.flag("proxy_protocol", false)?,
            proxy_name_is_username: keywords.flag("proxy_protocol_use_cn_as_username", false)?,
            forwarded,
            frame_size_max: keywords.number("max_ws_frame_size", 268_435_456, 0, i64::MAX as u64)?,
            upgrade: UpgradeLimits {
                request_line: keywords.number("max_request_line_length", 8_000, 64, HTTP_LENGTH_MAX)? as usize,
                header_value: keywords.number("max_header_value_length", 4_096, 64, HTTP_LENGTH_MAX)? as usize,
            },
        };
        let buffer_most = i32::MAX as u64;
        let socket = SocketOptions {
            nodelay: keywords.flag("nodelay", true)?,
            keepalive: keywords.flag("keepalive", false)?,
            backlog: i32::try_from(keywords.number("backlog", 4_096, 1, 65_535)?).unwrap_or(i32::MAX),
            send_buffer: keywords.optional_number("send_buffer", 1, buffer_most)?.map(|size| size as usize),
            receive_buffer: keywords.optional_number("receive_buffer", 1, buffer_most)?.map(|size| size as usize),
            reuse_port: keywords.flag("reuse_port", false)?,
            linger: keywords.optional_number("linger", 0, 65_535)?.map(|seconds| seconds as u32),
        };
        keywords.finish()?;
        Ok(Self { options, socket, address, tls })
    }

    /// Binds and listens.
    pub fn open(self, id: u64, workers: &Workers) -> PyResult<(Arc<ListenerState>, SocketOptions)> {
        let Self { options, socket: socket_options, address, tls } = self;
        let bound = bind(&address, &socket_options);
        let (acceptor, doorstop, address) = bound.map_err(|error| bind_error(&error, &options.name, &address))?;
        let state = Arc::new(ListenerState::new(id, options, address, doorstop, tls));
        workers.listen(&state, acceptor);
        Ok((state, socket_options))
    }
}

fn read_address(kind: Kind, address: &str, port: u16) -> PyResult<Address> {
    if address.starts_with('/') {
        if kind != Kind::Tcp || port != 0 {
            return Err(PyValueError::new_err("address: a Unix socket is of kind tcp and has port 0"));
        }
        return Ok(Address::Path(address.into()));
    }
    let ip: IpAddr = address.parse().map_err(|_| {
        let expected = "expected an IPv4 or IPv6 address, or the path of a Unix socket";
        PyValueError::new_err(format!("address: {expected}, got {address:?}"))
    })?;
    Ok(Address::Inet((ip, port).into()))
}

fn read_levels(keywords: &Keywords<'_>) -> PyResult<Vec<u8>> {
    let given = keywords.take::<Bound<'_, PyAny>>("allowed_protocol_versions")?;
    let Some(given) = given.filter(|given| !given.is_none()) else { return Ok(vec![3, 4, 5, 131]) };
    let levels = PyIterator::from_object(&given)?.map(|level| level?.extract::<u32>());
    let levels = levels.collect::<PyResult<Vec<_>>>()?;
    if let Some(level) = levels.iter().find(|level| ![3, 4, 5, 131, 132].contains(*level)) {
        let message = format!("allowed_protocol_versions: expected 3, 4, 5, 131 or 132, got {level}");
        return Err(PyValueError::new_err(message));
    }
    Ok(levels.into_iter().map(|level| level as u8).collect())
}

fn read_tls(kind: Kind, keywords: &Keywords<'_>) -> PyResult<Option<Tls>> {
    let given = keywords.take_optional::<PyRef<'_, TlsConfig>>("tls", None)?.map(|tls| tls.0.clone());
    match (kind.is_tls(), &given) {
        (true, None) => Err(PyValueError::new_err(format!("tls: a listener of kind {} needs it", kind.name()))),
        (false, Some(_)) => Err(PyValueError::new_err(format!("tls: a listener of kind {} has none", kind.name()))),
        _ => Ok(given),
    }
}

fn read_forwarded(keywords: &Keywords<'_>) -> PyResult<Option<Forwarded>> {
    let Some((trusted, common_name_header)) =
        keywords.take_optional::<(Bound<'_, PyAny>, Option<String>)>("proxy_xff", None)?
    else {
        return Ok(None);
    };
    let trusted = PyIterator::from_object(&trusted)?.map(|address| {
        let address: String = address?.extract()?;
        let parsed = address.parse::<IpAddr>().map(|address| address.to_canonical());
        parsed.map_err(|_| PyValueError::new_err(format!("proxy_xff: expected addresses of proxies, got {address:?}")))
    });
    Ok(Some(Forwarded { trusted: trusted.collect::<PyResult<_>>()?, common_name_header }))
}

/// Listens again where a suspended listener was.
pub fn resume(state: &Arc<ListenerState>, options: &SocketOptions, workers: &Workers) -> PyResult<()> {
    if state.is_open.load(Ordering::Acquire) {
        return Ok(());
    }
    let (acceptor, doorstop, _) =
        bind(&state.address, options).map_err(|error| bind_error(&error, &state.options.name, &state.address))?;
    state.reopen(doorstop);
    workers.listen(state, acceptor);
    Ok(())
}

/// Gives a listener another TLS configuration, for connections to come.
pub fn set_tls(state: &ListenerState, tls: &TlsConfig) -> PyResult<()> {
    if !state.options.kind.is_tls() {
        let message =
            format!("listener {}: a listener of kind {} has no TLS", state.options.name, state.options.kind.name());
        return Err(PyValueError::new_err(message));
    }
    state.tls.store(Some(Arc::new(tls.0.clone())));
    Ok(())
}

fn bind_error(error: &std::io::Error, name: &str, address: &Address) -> PyErr {
    let place = match address {
        Address::Inet(address) => format!("{} port {}", address.ip(), address.port()),
        Address::Path(path) => path.display().to_string(),
    };
    let message = format!("listener {name}: cannot listen on {place}: {error}");
    match error.raw_os_error() {
        Some(code) => PyOSError::new_err((code, message)),
        None => PyOSError::new_err(message),
    }
}
