//! Sizes in bytes, as they are written: `65536`, `64KiB`, `1TiB`.

use bytesize::ByteSize;

use super::{
    declare::{Entry, Located},
    load::Resolver,
};

impl Resolver {
    /// A number of bytes that may be left out.
    pub(super) fn size(&mut self, entry: Entry<String>) -> Option<u64> {
        entry.written.is_some().then(|| self.bytes(entry))
    }

    /// A number of bytes, never 0.
    pub(super) fn bytes(&mut self, entry: Entry<String>) -> u64 {
        if let Some(Located { value, at }) = entry.written {
            let (message, help) = match value.parse::<ByteSize>() {
                Ok(size) if size.as_u64() > 0 => return size.as_u64(),
                Ok(_) => {
                    ("the size must be greater than 0".to_owned(), "leave it out for the default")
                }
                Err(_) => {
                    let help = "sizes are written `65536`, `64KiB`, `32MiB`, `1TiB`";
                    (format!("`{value}` is not a size"), help)
                }
            };
            self.problems.add(Some(&at), message, Some(help));
        }
        let default = entry.default.and_then(|default| default.parse::<ByteSize>().ok());
        default.map_or(1, |size| size.as_u64())
    }
}
