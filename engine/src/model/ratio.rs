//! Ratios as people write them in a policy: `5%`, `99.9%`, `0.95`.

/// Why a text is not a ratio.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RatioError {
    /// The text does not follow the syntax.
    #[error("\"{0}\" is not a ratio; write a share such as \"0.95\" or a percentage such as \"5%\"")]
    Syntax(String),
    /// The value is outside 0 to 1 (0% to 100%).
    #[error("\"{0}\" is outside 0 to 1 (0% to 100%)")]
    Range(String),
}

/// Reads a ratio as a share from 0 to 1.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<f64, RatioError> {
    let quoted = || text.chars().take(40).collect::<String>();
    // Scaled as text: dividing would make 0.9990000000000001 of 99.9%.
    let (number, exponent) = text.strip_suffix('%').map_or((text, "e0"), |number| (number, "e-2"));
    let plain = !number.is_empty()
        && number.len() <= 12
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain {
        return Err(RatioError::Syntax(quoted()));
    }
    let value = format!("{number}{exponent}").parse::<f64>().map_err(|_| RatioError::Syntax(quoted()))?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(RatioError::Range(quoted())) }
}

/// A share for people: `94.2%`.
#[must_use]
pub fn percent(share: f64) -> String {
    let text = format!("{:.1}%", share * 100.0);
    text.replace(".0%", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_shares_and_percentages() {
        assert_eq!(parse("0.95"), Ok(0.95));
        assert_eq!(parse("5%"), Ok(0.05));
        assert_eq!(parse("99.9%"), Ok(0.999));
        assert_eq!(parse("100%"), Ok(1.0));
        assert_eq!(parse("1"), Ok(1.0));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["", "%", "-1%", "1e3", "nan", "inf", "1.2.3", ".5", "5 %", "1.5", "101%"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
