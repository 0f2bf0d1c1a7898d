//! The configuration that is in force, for all who must follow a reload.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use crate::{
    config::{self, Config, Options, Pipeline},
    fs::SandboxScope,
    http::ReloadRefused,
    observe::display_path,
    policy::OnSuccess,
};

crate::policy::words! {
    /// Why nothing was reloaded.
    Kind {
        /// The new configuration is wrong.
        Invalid = "invalid",
        /// It changes what a running process cannot.
        Restart = "restart needed",
        /// There is no file to read again.
        NoFile = "no file",
        /// The machine refused a directory, or a thread.
        Failed = "failed",
    }
}

/// Nothing was reloaded: the old configuration is in force, untouched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError {
    pub kind: Kind,
    /// All of it, for a person.
    pub detail: String,
}

impl ReloadError {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<ReloadError> for ReloadRefused {
    fn from(ReloadError { kind, detail }: ReloadError) -> Self {
        match kind {
            Kind::Invalid => Self::Invalid(detail),
            Kind::Restart | Kind::NoFile | Kind::Failed => Self::Conflict(detail),
        }
    }
}

/// Clones share it. Dropping it does nothing.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// As given at the start: they override the file each time that it is read.
    options: Arc<Options>,
    current: watch::Sender<Arc<Config>>,
    /// What the sandbox, where one is in force, lets the service work in.
    inside: Option<Arc<[PathBuf]>>,
    /// The same, by what they were at the start.
    reach: Option<Arc<SandboxScope>>,
}

impl LiveConfig {
    pub fn new(
        config: Config,
        options: Options,
        inside: Option<(Vec<PathBuf>, SandboxScope)>,
    ) -> Self {
        let (inside, reach) = inside.unzip();
        let (options, inside) = (Arc::new(options), inside.map(Into::into));
        let current = watch::Sender::new(Arc::new(config));
        Self { options, current, inside, reach: reach.map(Arc::new) }
    }

    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    pub fn set(&self, config: Arc<Config>) {
        self.current.send_replace(config);
    }

    /// `None` where no sandbox is in force.
    pub fn reach(&self) -> Option<Arc<SandboxScope>> {
        self.reach.clone()
    }

    /// Whether a hang-up can mean that the file is to be read again.
    pub fn has_file_to_read_again(&self) -> bool {
        self.options.config.is_some() && !self.now().once
    }

    /// Reads the file again; what comes back can be applied. Blocks.
    pub fn read_again(&self) -> Result<Config, ReloadError> {
        let old = self.now();
        if self.options.config.is_none() {
            let why = "there is no configuration file to read again: the service was started with options alone";
            return Err(ReloadError::new(Kind::NoFile, why));
        }
        if old.once {
            let why = "with `once` the configuration is read once";
            return Err(ReloadError::new(Kind::NoFile, why));
        }
        let new = config::load(&self.options)
            .map_err(|problems| ReloadError::new(Kind::Invalid, problems.to_string()))?;
        let fixed = old.fixed_keys_changed(&new);
        if !fixed.is_empty() {
            let keys: Vec<_> = fixed.iter().map(|key| format!("`{key}`")).collect();
            let why = format!(
                "{} cannot change in a running process: restart the service for it",
                keys.join(", ")
            );
            return Err(ReloadError::new(Kind::Restart, why));
        }
        let outside: Vec<_> = new
            .pipelines
            .iter()
            .flat_map(|pipeline| self.paths_outside_sandbox(pipeline))
            .collect();
        if outside.is_empty() {
            Ok(new)
        } else {
            Err(ReloadError::new(Kind::Restart, outside.join("\n")))
        }
    }

    /// The directories of a pipeline that the sandbox keeps the service out of.
    fn paths_outside_sandbox(&self, pipeline: &Pipeline) -> Vec<String> {
        let Some(inside) = &self.inside else { return Vec::new() };
        let is_outside = |place: &&Path| !inside.iter().any(|dir| place.starts_with(dir));
        let name = |place: &Path| {
            let key = match &pipeline.on_success {
                _ if place == pipeline.input => "input",
                _ if place == pipeline.output => "output",
                OnSuccess::Archive(archive) if place == archive => "on_success",
                _ => "quarantine",
            };
            format!(
                "`{key}` of the pipeline `{}`: {} is in no directory that the sandbox was opened for at the start: restart the service for it (`sandbox = \"off\"` reloads it)",
                pipeline.name,
                display_path(place)
            )
        };
        pipeline.directories().into_iter().filter(is_outside).map(name).collect()
    }
}
