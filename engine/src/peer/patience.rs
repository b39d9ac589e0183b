//! How long a connection may take until it is ready, and TLS on the way there. Pure: the clock is passed in.

use super::pulse::Micros;

/// With what a connection is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// With the handshake of TLS.
    Tls,
    /// With all of it.
    Altogether,
}

/// Until when a connection has to be ready.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    altogether: Micros,
    /// While TLS shakes hands and has a time of its own.
    tls: Option<Micros>,
}

impl Patience {
    pub fn until(altogether: Micros) -> Self {
        Self { altogether, tls: None }
    }

    /// TLS begins. `due`: until when it has to be done, if it has a time of its own.
    pub fn begin_tls(&mut self, due: Option<Micros>) {
        self.tls = due;
    }

    /// TLS is done.
    pub fn end_tls(&mut self) {
        self.tls = None;
    }

    /// When it is late, as far as it has come.
    pub fn due(&self) -> Micros {
        self.tls.map_or(self.altogether, |tls| tls.min(self.altogether))
    }

    /// With what it is late, if it is.
    pub fn lateness(&self, now: Micros) -> Option<Late> {
        let is_about_tls = self.tls.is_some_and(|tls| tls <= self.altogether);
        (now >= self.due()).then_some(if is_about_tls { Late::Tls } else { Late::Altogether })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_has_a_time_of_its_own_until_it_is_done() {
        let mut patience = Patience::until(10);
        assert_eq!((patience.due(), patience.lateness(9), patience.lateness(10)), (10, None, Some(Late::Altogether)));
        patience.begin_tls(Some(5));
        assert_eq!((patience.due(), patience.lateness(4), patience.lateness(5)), (5, None, Some(Late::Tls)));
        patience.end_tls();
        assert_eq!((patience.due(), patience.lateness(5)), (10, None));
        patience.begin_tls(Some(20));
        assert_eq!((patience.due(), patience.lateness(10)), (10, Some(Late::Altogether)));
    }
}
