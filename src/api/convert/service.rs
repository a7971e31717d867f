//! The Service that a request goes through.

use super::Reader;
use crate::api::text::{ServiceName, ServicePort};

/// Names what is wrong with them: what is stored may be older than the schema, and the name goes into the Host header.
pub(in crate::api) fn check(reader: &mut Reader, path: &str, service: &ServiceName, port: &ServicePort) {
    if !is_label(&service.0) {
        reader.problem(format!("{path}.serviceName"), "it is not the name of a Service");
    }
    check_port(reader, path, port);
}

/// Names what is wrong with a port.
pub(in crate::api) fn check_port(reader: &mut Reader, path: &str, port: &ServicePort) {
    let is_port = match port {
        ServicePort::Number(number) => (1..=65_535).contains(number),
        ServicePort::Name(name) => is_label(name),
    };
    if !is_port {
        let message = format!("{port} is not the name or number of a port");
        reader.problem(format!("{path}.port"), message);
    }
}

/// RFC 1123: what Services and their ports are called.
fn is_label(name: &str) -> bool {
    let letters = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&name.len())
        && name.bytes().all(letters)
        && !name.starts_with('-')
        && !name.ends_with('-')
}
