//! Addresses of a peer. Names are looked up each time it is dialled, on a thread that waits for nothing else: a name server that
//! does not answer must not hold up the heartbeats of what is connected.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use super::link::{Mail, PeerLink};

/// Addresses that a name stands for, at most.
const ADDRESSES_MAX: usize = 32;

/// Where to dial, and the host under which it was configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub address: SocketAddr,
    pub host: Arc<str>,
}

/// Host and port of an address as people write it.
pub(super) fn split(address: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{address:?}: expected HOST:PORT, as in broker-1.example.org:44053 or [::1]:44053");
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() { Err(wrong()) } else { Ok((host, port)) }
}

/// The addresses, if none of them has a name that must be looked up.
pub(super) fn literal(addresses: &[String]) -> Option<Vec<Target>> {
    let target = |address: &String| {
        let (host, port) = split(address).ok()?;
        Some(Target { address: SocketAddr::new(host.parse::<IpAddr>().ok()?, port), host: host.into() })
    };
    addresses.iter().map(target).collect()
}

/// Looks all of them up and mails the outcome to the link.
pub(super) fn look_up(link: &Arc<PeerLink>, addresses: Vec<String>) {
    let asking = Arc::clone(link);
    let work = move || asking.post(Mail::Resolved(resolve(&addresses)));
    let thread = std::thread::Builder::new().name("strogoff-resolve".to_owned()).spawn(work);
    if let Err(error) = thread {
        link.post(Mail::Resolved(Err(format!("no thread can be started to look the peer up: {error}"))));
    }
}

fn resolve(addresses: &[String]) -> Result<Vec<Target>, String> {
    let mut targets = Vec::new();
    let mut faults = Vec::new();
    for address in addresses {
        let found = split(address).and_then(|(host, port)| {
            let found = (host, port).to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
            Ok(found.map(|address| Target { address, host: host.into() }).collect::<Vec<_>>())
        });
        match found {
            Ok(found) => targets.extend(found),
            Err(fault) => faults.push(fault),
        }
    }
    targets.truncate(ADDRESSES_MAX);
    if targets.is_empty() { Err(format!("the peer has no address: {}", faults.join("; "))) } else { Ok(targets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_into_host_and_port() {
        assert_eq!(split("broker-1.x.org:44053"), Ok(("broker-1.x.org", 44_053)));
        assert_eq!(split("[::1]:1"), Ok(("::1", 1)));
        for wrong in ["", "host", "host:", ":1", "host:65536", "host:x"] {
            assert!(split(wrong).unwrap_err().contains("HOST:PORT"), "{wrong}");
        }
    }

    #[test]
    fn literal_addresses_are_not_looked_up() {
        let addresses = ["127.0.0.1:1".to_owned(), "[::1]:2".to_owned()];
        assert_eq!(literal(&addresses).map(|targets| targets.len()), Some(2));
        assert_eq!(literal(&["localhost:1".to_owned()]), None);
        assert_eq!(literal(&[]), Some(Vec::new()));
    }

    #[test]
    fn a_name_without_an_address_is_told() {
        let fault = resolve(&["nowhere.invalid:1".to_owned(), "wrong".to_owned()]).unwrap_err();
        assert!(fault.contains("nowhere.invalid") && fault.contains("HOST:PORT"), "{fault}");
    }
}
