//! The chain of transforms of a file, as written in `--transform`, and the resulting names.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    str::FromStr,
    sync::Arc,
};

use super::{
    Effect, ProgramRunner, Spec,
    age::{self, AgeKeys},
    compression,
    exec::{Exec, Programs},
    file_info::name_after,
};

/// At least one transform, in the order of application.
///
/// ```
/// let chain: tidemill::transforms::Chain = "gunzip,zstd:9".parse()?;
/// assert_eq!(chain.output_name("a.log.gz".as_ref()), "a.log.zst");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct Chain(Vec<Arc<dyn Spec>>);

impl Chain {
    /// Returns the default chain: zstd at its default level.
    #[must_use]
    pub fn zstd() -> Self {
        Self(vec![compression::zstd::default()])
    }

    #[must_use]
    pub fn specs(&self) -> &[Arc<dyn Spec>] {
        &self.0
    }

    /// Returns the chain with the programs that its `exec` transforms name, and with these keys of `age` and
    /// `unage`, or an error that names the missing table of a program.
    pub fn resolve(&self, programs: &Programs, keys: &Arc<AgeKeys>) -> Result<Self, String> {
        let resolve = |spec: &Arc<dyn Spec>| -> Result<Arc<dyn Spec>, String> {
            let Some(name) = spec.program_name() else {
                return Ok(spec.with_keys(keys).unwrap_or_else(|| Arc::clone(spec)));
            };
            match programs.get(name) {
                Some(program) => {
                    Ok(Arc::new(Exec::new(name.to_owned(), Some(Arc::clone(program)))))
                }
                None => Err(format!("`{spec}` has no table `[exec.{name}]`")),
            }
        };
        self.0.iter().map(resolve).collect::<Result<_, _>>().map(Self)
    }

    /// Gives the process that runs programs to the transforms that need it.
    pub fn connect(&self, runner: &Arc<dyn ProgramRunner>) {
        self.0.iter().for_each(|spec| spec.connect(runner));
    }

    /// Returns whether a transform runs a user's program.
    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.0.iter().any(|spec| spec.program_name().is_some())
    }

    /// Returns whether a transform needs recipients.
    #[must_use]
    pub fn encrypts(&self) -> bool {
        self.effects().any(|effect| effect == Effect::Encrypts)
    }

    /// Returns whether a transform needs identities.
    #[must_use]
    pub fn decrypts(&self) -> bool {
        self.effects().any(|effect| effect == Effect::Decrypts)
    }

    /// Returns the notation as the ledger stores it.
    #[must_use]
    pub fn recorded(&self) -> String {
        self.0.iter().map(|spec| spec.recorded()).collect::<Vec<_>>().join(",")
    }

    fn effects(&self) -> impl Iterator<Item = Effect> {
        self.0.iter().map(|spec| spec.effect())
    }

    /// Returns the first transform whose output does not give its input back, if there is one.
    #[must_use]
    pub fn irreversible(&self) -> Option<String> {
        self.0.iter().find(|spec| spec.inverse().is_none()).map(ToString::to_string)
    }

    /// Returns whether a transform can enlarge a file without an inherent bound.
    #[must_use]
    pub fn decompresses(&self) -> bool {
        self.effects().any(|effect| matches!(effect, Effect::Decompresses(_)))
    }

    /// Returns whether the output equals the source, byte for byte.
    #[must_use]
    pub fn only_copies(&self) -> bool {
        self.effects().all(|effect| effect == Effect::Copies)
    }

    /// Returns warnings about valid but questionable combinations.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let pairs = self.0.windows(2).filter_map(|pair| {
            let [first, second] = pair else { return None };
            match (first.effect(), second.effect()) {
                (Effect::Compresses(format), Effect::Decompresses(undone))
                    if undone.is_none_or(|undone| undone == format) =>
                {
                    Some(format!("`{second}` undoes `{first}`"))
                }
                (Effect::Compresses(_), Effect::Compresses(_)) => {
                    Some(format!("`{second}` compresses the output of `{first}` again"))
                }
                (Effect::Encrypts, Effect::Decrypts) => {
                    Some(format!("`{second}` undoes `{first}`"))
                }
                _ => None,
            }
        });
        pairs.chain(self.compression_after_encryption()).collect()
    }

    /// Warns where an encrypted file is compressed: it does not get smaller.
    fn compression_after_encryption(&self) -> Option<String> {
        let encryption = self.effects().position(|effect| effect == Effect::Encrypts)?;
        let (first, rest) = self.0.get(encryption..)?.split_first()?;
        let compresses = |spec: &&Arc<dyn Spec>| matches!(spec.effect(), Effect::Compresses(_));
        let decrypts = |spec: &&Arc<dyn Spec>| spec.effect() == Effect::Decrypts;
        let second = rest.iter().take_while(|spec| !decrypts(spec)).find(compresses)?;
        Some(format!(
            "`{second}` cannot compress the output of `{first}`: write `{second},{first}`"
        ))
    }

    /// Returns the output name for a source name: a decompressing transform strips its extension, if
    /// present, and a compressing one appends its extension.
    #[must_use]
    pub fn output_name(&self, source: &OsStr) -> OsString {
        name_after(source, &self.0)
    }

    /// Returns whether a file of this name, which is compressed already, is compressed again.
    #[must_use]
    pub fn recompresses(&self, source: &OsStr) -> bool {
        let compresses = |spec: &Arc<dyn Spec>| matches!(spec.effect(), Effect::Compresses(_));
        // Most names have no such extension, and need no other name.
        compression::is_compressed(source)
            && self.0.iter().position(compresses).is_some_and(|first| {
                let before = self.0.get(..first).unwrap_or_default();
                compression::is_compressed(&name_after(source, before))
            })
    }

    /// Returns the extension that the last transform appends, if any.
    #[must_use]
    pub fn added_extension(&self) -> Option<&'static str> {
        match self.0.last().map(|spec| spec.effect()) {
            Some(Effect::Compresses(format)) => Some(format.extension()),
            Some(Effect::Encrypts) => Some(age::EXTENSION),
            _ => None,
        }
    }
}

/// Equal chains are recorded in the same way.
impl PartialEq for Chain {
    fn eq(&self, other: &Self) -> bool {
        self.recorded() == other.recorded()
    }
}

impl Eq for Chain {}

impl FromStr for Chain {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',')
            .map(|transform| super::parse(transform.trim()))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, spec) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{spec}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    fn chain(text: &str) -> Chain {
        text.parse().expect(text)
    }

    #[test]
    fn names_follow_the_transforms() {
        for (transforms, source, output) in [
            ("zstd", "a.log", "a.log.zst"),
            ("gunzip,zstd:9", "a.log.gz", "a.log.zst"),
            ("gunzip", "a.tgz", "a.tar"),
            ("gunzip", "A.GZ", "A"),
            ("unxz", "a.lzma", "a"),
            ("unxz", "a.tlz", "a.tar"),
            ("gunzip", "plain", "plain"),
            ("gunzip", ".gz", ".gz"),
            ("decompress,xz", "b.bz2", "b.xz"),
            ("decompress", "b.br", "b"),
            ("zstd,gzip", "c", "c.zst.gz"),
            ("copy", "d.gz", "d.gz"),
            ("zstd,age", "e.log", "e.log.zst.age"),
            ("unage,unzstd", "e.log.zst.AGE", "e.log"),
            ("unage", "plain", "plain"),
            ("unage", ".age", ".age"),
        ] {
            assert_eq!(
                chain(transforms).output_name(source.as_ref()),
                output,
                "{transforms} {source}"
            );
        }
    }

    #[test]
    fn transforms_that_undo_or_repeat_each_other_cause_a_warning() {
        for (transforms, warning) in [
            ("gzip,gunzip", "`gunzip` undoes `gzip:6`"),
            ("gzip,decompress", "`decompress` undoes `gzip:6`"),
            ("zstd,gzip", "`gzip:6` compresses the output of `zstd:3` again"),
            ("age,unage", "`unage` undoes `age`"),
            ("age,copy,zstd", "`zstd:3` cannot compress the output of `age`: write `zstd:3,age`"),
        ] {
            assert_eq!(chain(transforms).warnings(), [warning], "{transforms}");
        }
        for transforms in
            ["gzip", "gunzip,zstd", "gunzip,gunzip", "zstd,copy", "zstd,age", "unage,zstd"]
        {
            assert!(chain(transforms).warnings().is_empty(), "{transforms}");
        }
    }

    #[test]
    fn a_compressed_file_is_compressed_again_unless_it_is_decompressed_first() {
        for (transforms, source, wanted) in [
            ("zstd", "a.gz", true),
            ("zstd", "a.tgz", true),
            ("copy,gzip", "a.gz", true),
            ("zstd", "a.log", false),
            ("zstd,gzip", "a.log", false),
            ("copy", "a.gz", false),
            ("gunzip", "a.gz", false),
            ("gunzip,zstd", "a.gz", false),
            ("decompress:or-copy,zstd", "a.xz", false),
            ("gunzip,zstd", "a.xz.gz", true),
        ] {
            assert_eq!(
                chain(transforms).recompresses(source.as_ref()),
                wanted,
                "{transforms} {source}"
            );
        }
    }

    #[test]
    fn a_name_that_is_not_utf8_keeps_its_bytes() {
        let name = OsStr::from_bytes(b"\xff\n.gz");
        assert_eq!(chain("gunzip").output_name(name).as_bytes(), b"\xff\n");
    }

    #[test]
    fn errors_name_the_valid_values() {
        assert!("zstd:20".parse::<Chain>().unwrap_err().contains("takes 1 to 19"));
        assert!("gzip:0:members".parse::<Chain>().unwrap_err().contains("takes 1 to 9"));
        assert!(
            "gzip:6:member".parse::<Chain>().unwrap_err().contains("`6:member` is not a level")
        );
        assert!("zstd:3:members".parse::<Chain>().unwrap_err().contains("only `gzip` has members"));
        assert!("gunzip:3".parse::<Chain>().unwrap_err().contains("takes no options"));
        assert!("zip".parse::<Chain>().unwrap_err().contains("`bunzip2`"));
        assert!("".parse::<Chain>().is_err());
        assert!("zstd,,gzip".parse::<Chain>().is_err());
    }

    #[test]
    fn a_chain_is_displayed_as_it_is_written() {
        assert_eq!(chain("gunzip, zstd").to_string(), "gunzip,zstd:3");
        assert_eq!(chain("gzip:members").to_string(), "gzip:6:members");
        assert_eq!(chain("gzip:9:members").to_string(), "gzip:9:members");
    }
}
