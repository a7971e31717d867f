//! What was asked of the API server, as its audit log has it.

use std::collections::BTreeSet;
use std::fmt;

use lab::control_plane::AuditEvent;

/// One kind of request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Request {
    pub(crate) namespace: String,
    pub(crate) group: String,
    /// With its subresource, as Roles write it.
    pub(crate) resource: String,
    pub(crate) verb: String,
    pub(crate) name: String,
    /// The API server refused it for want of the right.
    pub(crate) forbidden: bool,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        write!(f, "{} {}/{} {} in {}", self.verb, group, self.resource, self.name, self.namespace)
    }
}

/// All kinds of requests among these. What is no resource (the server's version) everybody may read.
pub(crate) fn requests(events: &[AuditEvent]) -> BTreeSet<Request> {
    let request = |event: &AuditEvent| {
        let object = event.object_ref.as_ref()?;
        let resource = match object.subresource.as_str() {
            "" => object.resource.clone(),
            subresource => format!("{}/{subresource}", object.resource),
        };
        Some(Request {
            namespace: object.namespace.clone(),
            group: object.api_group.clone(),
            resource,
            verb: event.verb.clone(),
            name: object.name.clone(),
            forbidden: event.code() == 403,
        })
    };
    events.iter().filter_map(request).collect()
}
