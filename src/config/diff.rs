//! What a reload has to do: the difference between the running configuration and a new one.

use std::sync::Arc;

use super::{Config, Pipeline, keys::ExecKeys};

/// The names of the pipelines, by what a reload does with each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub unchanged: Vec<Arc<str>>,
    pub changed: Vec<Arc<str>>,
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
}

impl Difference {
    /// Restarts these although their configuration is unchanged.
    pub fn change(&mut self, names: &[Arc<str>]) {
        self.changed.extend(self.unchanged.extract_if(.., |name| names.contains(name)));
    }
}

impl Config {
    /// Compares the pipelines of two configurations; pipelines with the same name are the same.
    #[must_use]
    pub fn difference(&self, new: &Self) -> Difference {
        let mut difference = Difference::default();
        for pipeline in &new.pipelines {
            let list = match self.pipeline(&pipeline.name) {
                None => &mut difference.added,
                Some(old) if old == pipeline && !self.changes_keys_of(old, new) => {
                    &mut difference.unchanged
                }
                Some(_) => &mut difference.changed,
            };
            list.push(Arc::clone(&pipeline.name));
        }
        for pipeline in &self.pipelines {
            if new.pipeline(&pipeline.name).is_none() {
                difference.removed.push(Arc::clone(&pipeline.name));
            }
        }
        difference
    }

    /// Whether a new configuration has other keys for a pipeline that needs them.
    fn changes_keys_of(&self, pipeline: &Pipeline, new: &Self) -> bool {
        let chain = &pipeline.transforms;
        (chain.encrypts() || chain.decrypts()) && self.age != new.age
    }

    /// The pipeline of this name.
    #[must_use]
    pub fn pipeline(&self, name: &str) -> Option<&Pipeline> {
        self.pipelines.iter().find(|pipeline| &*pipeline.name == name)
    }

    /// The keys that differ and that take a restart.
    #[must_use]
    pub fn fixed_keys_changed(&self, new: &Self) -> Vec<String> {
        // Without `..`, so that the compiler asks for each new key.
        let Self {
            pipelines: _,
            age: _,
            state_dir,
            http,
            admin_token_file,
            admin_socket,
            events,
            keys,
            once,
            limits,
            retention,
            hooks,
            programs,
            otlp,
        } = self;
        let of_programs: Vec<String> = programs
            .iter()
            .filter_map(|(name, program)| Some((name, program, new.programs.get(name)?)))
            .flat_map(|(name, program, new)| {
                let changed = ExecKeys::from(&**program).changed(&ExecKeys::from(&**new));
                changed.into_iter().map(move |key| format!("exec.{name}.{key}"))
            })
            .collect();
        let by_hand = [
            ("state_dir", *state_dir != new.state_dir),
            ("http", *http != new.http),
            ("admin_token_file", *admin_token_file != new.admin_token_file),
            ("admin_socket", *admin_socket != new.admin_socket),
            ("events", *events != new.events),
            ("once", *once != new.once),
            ("hooks", *hooks != new.hooks),
            ("exec", of_programs.is_empty() && *programs != new.programs),
            ("otlp", *otlp != new.otlp),
        ];
        let by_hand =
            by_hand.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned());
        let of_file = keys.changed(&new.keys).into_iter().map(str::to_owned);
        let of_limits = limits.changed(&new.limits).into_iter().map(|key| format!("limits.{key}"));
        let of_retention = retention.changed(&new.retention).into_iter();
        let of_retention = of_retention.map(|key| format!("retention.{key}"));
        by_hand.chain(of_file).chain(of_limits).chain(of_retention).chain(of_programs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Options, resolve};

    fn config(text: &str) -> Config {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("t.toml");
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::io::Write::write_all(
            &mut std::fs::File::create(&file).expect("a file"),
            text.as_bytes(),
        )
        .expect("written");
        resolve(&Options { config: Some(file), ..Options::default() }).expect("it resolves")
    }

    fn pipelines(all: &[(&str, &str)]) -> Config {
        let table = |(name, lines): &(&str, &str)| {
            format!(
                "[[pipeline]]\nname = \"{name}\"\ninput = \"/i/{name}\"\noutput = \"/o/{name}\"\n{lines}\n"
            )
        };
        config(&format!("state_dir = \"/s\"\n{}", all.iter().map(table).collect::<String>()))
    }

    #[test]
    fn pipelines_are_matched_by_name_and_compared_by_value() {
        let old = pipelines(&[("a", ""), ("b", ""), ("c", "exclude = [\"x\"]")]);
        let new =
            pipelines(&[("d", ""), ("c", "exclude = [\"y\"]"), ("b", "transforms = \"zstd\"")]);
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        let expected = Difference {
            unchanged: names(&["b"]),
            changed: names(&["c"]),
            added: names(&["d"]),
            removed: names(&["a"]),
        };
        assert_eq!(old.difference(&new), expected);
        assert_eq!(old.fixed_keys_changed(&new), Vec::<String>::new());
    }

    #[test]
    fn keys_that_take_a_restart_are_named() {
        let with =
            |head: &str| config(&format!("{head}\n[[pipeline]]\ninput = \"/i\"\noutput = \"/o\""));
        let old = with("");
        for (key, head) in [
            ("state_dir", "state_dir = \"/s\""),
            ("http", "http = \"off\""),
            ("events", "events = \"/e\""),
            ("shutdown_deadline", "shutdown_deadline = \"1s\""),
            ("sandbox", "sandbox = \"off\""),
            ("log_format", "log_format = \"json\""),
            ("hooks", "hooks.timeout = \"1s\""),
            ("limits.memory", "limits.memory = \"1MiB\""),
            ("limits.files", "limits.files = 1"),
            ("limits.workers", "limits.workers = 77"),
            ("retention.archive", "retention.archive = \"30d\""),
        ] {
            assert_eq!(old.fixed_keys_changed(&with(head)), [key]);
        }
        let program = |keys: &str| with(&format!("[exec.p]\ncommand = [\"/bin/cat\"]\n{keys}"));
        for (key, keys) in [
            ("exec.p.timeout", "timeout = \"1s\""),
            ("exec.p.pause_codes", "pause_codes = []"),
            ("exec", "read = [\"/srv\"]"),
        ] {
            assert_eq!(program("").fixed_keys_changed(&program(keys)), [key]);
        }
    }
}
