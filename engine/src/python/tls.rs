//! TLS configurations as Python makes them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::transport::tls::{self, IdentityPem, Offers, TlsOptions};

/// TLS as a listener does it.
#[pyclass(frozen, module = "strogoff._engine")]
pub struct TlsConfig(pub tls::TlsConfig);

#[pymethods]
impl TlsConfig {
    #[new]
    #[pyo3(signature = (*, identities, client_ca=None, require_client_certificate=false, crl=None, depth=1, versions=None,
                        ciphers=None, curves=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a Python method")]
    fn new(
        py: Python<'_>,
        identities: &Bound<'_, PyAny>,
        client_ca: Option<Vec<u8>>,
        require_client_certificate: bool,
        crl: Option<Vec<u8>>,
        depth: usize,
        versions: Option<&Bound<'_, PyAny>>,
        ciphers: Option<&Bound<'_, PyAny>>,
        curves: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let identities = PyIterator::from_object(identities)?.map(|identity| {
            let (certificates, key, names): (Vec<u8>, Vec<u8>, Bound<'_, PyAny>) = identity?.extract()?;
            Ok(IdentityPem { certificates, key, names: texts(Some(&names))?.unwrap_or_default() })
        });
        let options = TlsOptions {
            identities: identities.collect::<PyResult<_>>()?,
            client_ca,
            is_certificate_required: require_client_certificate,
            revocations: crl,
            depth,
            offers: read_offers(versions, ciphers, curves)?,
        };
        let config = py.detach(|| tls::TlsConfig::new(&options));
        config.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

/// What is agreed to; what is not given is as usual.
pub(super) fn read_offers(
    versions: Option<&Bound<'_, PyAny>>,
    ciphers: Option<&Bound<'_, PyAny>>,
    curves: Option<&Bound<'_, PyAny>>,
) -> PyResult<Offers> {
    let usual = Offers::default();
    Ok(Offers {
        versions: texts(versions)?.unwrap_or(usual.versions),
        ciphers: texts(ciphers)?.unwrap_or(usual.ciphers),
        curves: texts(curves)?.unwrap_or(usual.curves),
    })
}

fn texts(given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Vec<String>>> {
    given.map(|given| PyIterator::from_object(given)?.map(|text| text?.extract()).collect()).transpose()
}
