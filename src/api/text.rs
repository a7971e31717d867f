//! Checked texts: what a schema can say about them stands in the schema, the rest is checked on conversion.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A span of time in whole numbers of h, m, s and ms, largest first: `200ms`, `15s`, `1h30m`.
///
/// The digits are bounded so that CEL's `duration()` cannot overflow on any text that the pattern admits.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("pattern" = r"^([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?$"),
    extend("minLength" = 2),
    extend("maxLength" = 32)
)]
pub struct Duration(pub String);

impl Duration {
    /// The text of a duration.
    #[must_use]
    pub fn of(duration: std::time::Duration) -> Self {
        Self(engine::model::duration::format(duration))
    }

    /// The text `seconds` as a constant default.
    pub(crate) fn text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A share from 0 to 1: `0.95`, or as a percentage `95%`.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("pattern" = r"^((100(\.0{1,6})?|[0-9]{1,2}(\.[0-9]{1,6})?)%|0(\.[0-9]{1,8})?|1(\.0{1,8})?)$"),
    extend("maxLength" = 12)
)]
pub struct Ratio(pub String);

impl Ratio {
    /// The text of a share from 0 to 1.
    #[must_use]
    pub fn of(share: f64) -> Self {
        let text = format!("{share:.8}");
        Self(text.trim_end_matches('0').trim_end_matches('.').to_owned())
    }
}

/// A name of the operator's own vocabulary (a mode, a type, a cause), in CamelCase. Names that this version does not know
/// are stored and make the object `Stalled` with the field's path, so that up- and downgrades lose nothing.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[A-Z][A-Za-z0-9]*$"), extend("maxLength" = 63))]
pub struct Word(pub String);

impl Word {
    pub(crate) fn text(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A name within a policy: lower-case letters, digits and dashes.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("maxLength" = 32))]
pub struct Label(pub String);

/// The name of a Kubernetes object.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("pattern" = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
    extend("minLength" = 1),
    extend("maxLength" = 253)
)]
pub struct ObjectName(pub String);

/// The name of a Service.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("maxLength" = 63))]
pub struct ServiceName(pub String);

/// A port of a Service, by its name or number.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum ServicePort {
    /// Its number.
    Number(i32),
    /// Its name; or its number, in digits.
    Name(String),
}

impl ServicePort {
    /// The port of that name or number.
    #[must_use]
    pub fn of(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }
}

impl std::fmt::Display for ServicePort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl JsonSchema for ServicePort {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ServicePort".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            "maxLength": 63,
            "minimum": 1,
            "maximum": 65535,
        })
    }
}

/// The path of a request, with its query.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("pattern" = r##"^/([!$-.0-;=?-\[\]-_a-~][!$-;=?-\[\]-_a-~]*)?$"##),
    extend("maxLength" = 1024)
)]
pub struct HttpPath(pub String);

/// The name of a database role.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("minLength" = 1), extend("maxLength" = 63))]
pub struct RoleName(pub String);

/// A percentile: a whole number, or a text with decimals.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Percentile {
    /// Without decimals.
    Number(i32),
    /// With decimals.
    Text(String),
}

impl Percentile {
    /// The percentile of a quantile from 0 to 1.
    #[must_use]
    pub fn of(quantile: f64) -> Self {
        let text = format!("{:.6}", quantile * 100.0);
        let text = text.trim_end_matches('0').trim_end_matches('.').to_owned();
        text.parse().map_or(Self::Text(text), Self::Number)
    }
}

impl std::fmt::Display for Percentile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl JsonSchema for Percentile {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Percentile".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": r"^[0-9]{1,2}(\.[0-9]{1,6})?$",
            "maxLength": 9,
            "minimum": 1,
            "maximum": 99,
        })
    }
}

/// How much is added at a time: a number, or a percentage of what there is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Step {
    /// A number.
    Count(i32),
    /// A percentage.
    Share(String),
}

impl JsonSchema for Step {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Step".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "pattern": "^(100|[1-9][0-9]?)%$",
            "maxLength": 4,
            "minimum": 1,
            "maximum": 10000,
        })
    }
}

/// A bound of a value: a duration, or a share.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend(
        "pattern" = r"^(([0-9]{1,5}h)?([0-9]{1,6}m)?([0-9]{1,7}s)?([0-9]{1,9}ms)?|[0-9]{1,3}(\.[0-9]{1,6})?%|0(\.[0-9]{1,8})?)$"
    ),
    extend("minLength" = 1),
    extend("maxLength" = 32)
)]
pub struct Bound(pub String);

/// A schedule in cron format: minute, hour, day of month, month, day of week.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(
    extend("pattern" = r"^[0-9*,/-]+ [0-9*,/-]+ [0-9*,/-]+ [0-9A-Z*,/-]+ [0-9A-Z*,/-]+$"),
    extend("maxLength" = 128)
)]
pub struct Schedule(pub String);

/// The IANA name of a time zone.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}$"), extend("maxLength" = 64))]
pub struct TimeZone(pub String);

/// The beginning of an application's name, as PostgreSQL shows it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("minLength" = 1), extend("maxLength" = 63))]
pub struct ApplicationName(pub String);

/// A key of a Secret.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("pattern" = r"^[-._a-zA-Z0-9]+$"), extend("maxLength" = 253))]
pub struct SecretKey(pub String);

/// A sentence for people, as the operator writes it.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(transparent)]
#[schemars(extend("maxLength" = 1024))]
pub struct Sentence(pub String);

impl Sentence {
    /// A sentence, cut to what the schema admits.
    #[must_use]
    pub fn of(text: &str) -> Self {
        const MOST: usize = 1024;
        if text.chars().count() <= MOST {
            return Self(text.to_owned());
        }
        let mut cut: String = text.chars().take(MOST - 1).collect();
        cut.push('…');
        Self(cut)
    }
}

/// What somebody else wrote, as it can be told: cut to so many characters, and without those that control a terminal or
/// forge another line of a log.
#[must_use]
pub fn shown(text: &str, most: usize) -> String {
    let mut letters = text.chars().filter(|letter| !letter.is_control());
    let mut shown: String = letters.by_ref().take(most).collect();
    if letters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

/// An instant in RFC 3339, to the microsecond.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
#[schemars(extend("format" = "date-time"), extend("maxLength" = 40))]
pub struct Instant(#[schemars(with = "String")] pub jiff::Timestamp);

/// Reads an instant that may lie beyond the calendar: whoever writes `9999-12-31T23:59:59Z` means for ever. It is the last
/// one that there is.
pub(super) fn or_for_ever<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
    use jiff::fmt::temporal::Pieces;

    let text = String::deserialize(deserializer)?;
    let last = jiff::Timestamp::MAX;
    let beyond = |text: &str| {
        let pieces = Pieces::parse(text).ok()?;
        let whole = pieces.time().is_some() && pieces.offset().is_some();
        (whole && pieces.date() >= jiff::tz::TimeZone::UTC.to_datetime(last).date()).then_some(last)
    };
    let instant = text.parse().or_else(|error| beyond(&text).ok_or(error));
    instant.map(Instant).map_err(serde::de::Error::custom)
}
