//! Messages of PostgreSQL's wire protocol, version 3: <https://www.postgresql.org/docs/current/protocol-message-formats.html>.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Larger ones are nobody's: the operator asks short questions.
const LARGEST: usize = 64 << 20;

/// One message: its type (none for those before the login) and its content without the length.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Option<u8>,
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Reads the next message; those before the login have no type.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin), typed: bool) -> std::io::Result<Self> {
        let kind = if typed { Some(from.read_u8().await?) } else { None };
        let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
        if !(4..=LARGEST).contains(&length) {
            return Err(std::io::Error::other("this is not PostgreSQL's protocol"));
        }
        let mut body = vec![0; length - 4];
        from.read_exact(&mut body).await?;
        Ok(Self { kind, body })
    }

    /// Writes it as it was read.
    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        let mut bytes = Vec::with_capacity(self.body.len() + 5);
        bytes.extend(self.kind);
        let length = u32::try_from(self.body.len() + 4).map_err(std::io::Error::other)?;
        bytes.extend(length.to_be_bytes());
        bytes.extend(&self.body);
        to.write_all(&bytes).await
    }

    /// A message before the login that another one of that kind follows: a question for encryption, which is refused.
    pub(super) fn asks_for_encryption(&self) -> bool {
        // SSLRequest and GSSENCRequest.
        self.body == 80_877_103_u32.to_be_bytes() || self.body == 80_877_104_u32.to_be_bytes()
    }

    /// Of `Parse`: the statement's name and text.
    pub(super) fn parse(&self) -> Option<(String, String)> {
        let mut reader = Reader(&self.body);
        (self.kind == Some(b'P')).then(|| Some((reader.text()?, reader.text()?)))?
    }

    /// Of `Bind`: the statement's name and the values of its parameters.
    pub(super) fn bind(&self) -> Option<(String, Vec<Option<Vec<u8>>>)> {
        if self.kind != Some(b'B') {
            return None;
        }
        let mut reader = Reader(&self.body);
        let (_portal, statement) = (reader.text()?, reader.text()?);
        let formats = reader.short()?;
        reader.take(usize::from(formats) * 2)?;
        let count = reader.short()?;
        let values: Option<Vec<_>> = (0..count).map(|_| reader.value()).collect();
        Some((statement, values?))
    }

    /// Of `DataRow`: its first column.
    pub(super) fn first_column(&self) -> Option<Option<Vec<u8>>> {
        if self.kind != Some(b'D') {
            return None;
        }
        let mut reader = Reader(&self.body);
        reader.short()?;
        reader.value()
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken.to_vec())
    }

    fn text(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// A length and so many bytes; -1 is NULL.
    fn value(&mut self) -> Option<Option<Vec<u8>>> {
        let length = i32::from_be_bytes(self.take(4)?.try_into().ok()?);
        match usize::try_from(length) {
            Ok(length) => Some(Some(self.take(length)?)),
            Err(_) => Some(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_statement_shows_its_name_and_its_values() {
        let mut body = b"\0statement\0".to_vec();
        body.extend([0, 1, 0, 1, 0, 2]);
        body.extend([0, 0, 0, 4, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff]);
        let bind = Message { kind: Some(b'B'), body };
        let (statement, values) = bind.bind().unwrap();
        assert_eq!((statement.as_str(), values), ("statement", vec![Some(vec![0, 0, 1, 0]), None]));
        assert!(Message { kind: Some(b'B'), body: b"\0x".to_vec() }.bind().is_none(), "cut off");
    }
}
