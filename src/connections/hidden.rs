//! What the other side says may hold what it was told: an answer that repeats a password or a token is shown without it.

/// What is shorter is part of too many words to be taken out of a sentence.
const LEAST: usize = 4;

/// The words without these secrets, as they are and as JSON escapes them.
pub(crate) fn without<S: AsRef<str>>(secrets: &[S], words: &str) -> String {
    let mut words = words.to_owned();
    let mut secrets: Vec<&str> =
        secrets.iter().map(AsRef::as_ref).filter(|secret| secret.len() >= LEAST).collect();
    // One may be the beginning of another one.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        let escaped = serde_json::Value::from(secret).to_string();
        let escaped =
            escaped.strip_prefix('"').and_then(|escaped| escaped.strip_suffix('"')).unwrap_or(secret);
        for form in [secret, escaped] {
            if words.contains(form) {
                words = words.replace(form, "[hidden]");
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_secrets_are_taken_out_in_every_form() {
        assert_eq!(without(&["s3cret"], "no s3cret, no \"s3cret\""), "no [hidden], no \"[hidden]\"");
        assert_eq!(without(&["a\"b c"], "{\"error\": \"a\\\"b c\"}"), "{\"error\": \"[hidden]\"}");
        assert_eq!(without(&["shop", "shopkeeper"], "shopkeeper of shop"), "[hidden] of [hidden]");
        assert_eq!(without(&["", "a"], "a word"), "a word");
        assert_eq!(without::<&str>(&[], "a word"), "a word");
    }
}
