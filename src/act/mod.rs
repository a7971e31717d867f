//! Carrying out one admitted effect, fenced: it cannot happen after its deadline, nor to anything but what was decided.

pub mod send_requests;
pub mod signal_session;
