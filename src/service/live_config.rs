//! The configuration in force, which follows each reload.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::sync::watch;

use super::blocking::blocking;
use crate::{
    config::{self, Config, Options, Pipeline},
    fs::SandboxScope,
    http::ReloadRefused,
    observe::display_path,
    pipeline::own_paths::OwnPaths,
    policy::OnSuccess,
    sandbox::SandboxState,
};

crate::policy::words! {
    /// Reason of a refused reload.
    ReloadErrorKind {
        /// The new configuration is invalid.
        Invalid = "invalid",
        /// The new configuration needs a restart.
        Restart = "restart_required",
        /// The service has no configuration file to reload.
        NoFile = "no_file",
        /// A directory or a thread could not be made ready.
        Failed = "failed",
    }
}

/// A refused reload: the old configuration stays in force unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError {
    pub kind: ReloadErrorKind,
    /// Full text for the operator.
    pub detail: String,
}

impl ReloadError {
    pub fn new(kind: ReloadErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<ReloadError> for ReloadRefused {
    fn from(ReloadError { kind, detail }: ReloadError) -> Self {
        match kind {
            ReloadErrorKind::Invalid => Self::Invalid(detail),
            ReloadErrorKind::Restart | ReloadErrorKind::NoFile | ReloadErrorKind::Failed => {
                Self::Conflict(detail)
            }
        }
    }
}

/// The directories of the sandbox in force.
#[derive(Debug)]
pub struct SandboxDirs {
    /// Where it lets the service work.
    pub inside: Vec<PathBuf>,
    /// Where it lets it read files.
    pub readable: Vec<PathBuf>,
    /// Identities of those of `inside` at the start.
    pub scope: SandboxScope,
}

/// The configuration in force. Clones share one state; dropping one does nothing.
#[derive(Clone, Debug)]
pub struct LiveConfig {
    /// Command-line options. They override the file each time it is read.
    options: Arc<Options>,
    /// The configuration in force. Only the reload writes it.
    current: watch::Sender<Arc<Config>>,
    /// `None` if no sandbox is in force.
    sandbox: Option<Arc<SandboxDirs>>,
    /// Identities of its directories at the start.
    scope: Option<Arc<SandboxScope>>,
    sandbox_state: SandboxState,
}

impl LiveConfig {
    pub fn new(
        config: Config,
        options: Options,
        sandbox: Option<SandboxDirs>,
        sandbox_state: SandboxState,
    ) -> Self {
        let scope = sandbox.as_ref().map(|dirs| Arc::new(dirs.scope.clone()));
        let (options, sandbox) = (Arc::new(options), sandbox.map(Arc::new));
        let current = watch::Sender::new(Arc::new(config));
        Self { options, current, sandbox, scope, sandbox_state }
    }

    pub fn now(&self) -> Arc<Config> {
        Arc::clone(&self.current.borrow())
    }

    /// Returns the service's own paths, which follow each reload.
    pub async fn own_paths(&self) -> Arc<OwnPaths> {
        let config = self.subscribe();
        blocking(move || OwnPaths::new(config)).await
    }

    /// Returns a view that follows each reload.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Config>> {
        self.current.subscribe()
    }

    pub fn set(&self, config: Arc<Config>) {
        self.current.send_replace(config);
    }

    /// Returns the directories of the sandbox, or `None` if no sandbox is in force.
    pub fn scope(&self) -> Option<Arc<SandboxScope>> {
        self.scope.clone()
    }

    pub const fn sandbox_state(&self) -> SandboxState {
        self.sandbox_state
    }

    /// Returns whether a hang-up can request a reload.
    pub fn can_reload(&self) -> bool {
        self.options.config.is_some() && !self.now().once
    }

    /// Reads and checks the file again. The result can be applied. Blocks.
    pub fn load(&self) -> Result<Config, ReloadError> {
        let old = self.now();
        if self.options.config.is_none() {
            let detail = "no configuration file: the service was started with options alone";
            return Err(ReloadError::new(ReloadErrorKind::NoFile, detail));
        }
        if old.once {
            let detail = "with `once` the configuration is read once";
            return Err(ReloadError::new(ReloadErrorKind::NoFile, detail));
        }
        let new = config::load(&self.options)
            .map_err(|problems| ReloadError::new(ReloadErrorKind::Invalid, problems.to_string()))?;
        let fixed = old.fixed_keys_changed(&new);
        if !fixed.is_empty() {
            let keys: Vec<_> = fixed.iter().map(|key| format!("`{key}`")).collect();
            let detail = format!("cannot change {} without a restart", keys.join(", "));
            return Err(ReloadError::new(ReloadErrorKind::Restart, detail));
        }
        let outside: Vec<_> = new
            .pipelines
            .iter()
            .flat_map(|pipeline| self.paths_outside_sandbox(pipeline))
            .chain(self.keys_outside_sandbox(&new))
            .collect();
        if outside.is_empty() {
            Ok(new)
        } else {
            Err(ReloadError::new(ReloadErrorKind::Restart, outside.join("\n")))
        }
    }

    /// Returns an error text for each key file that the sandbox excludes.
    fn keys_outside_sandbox(&self, new: &Config) -> Vec<String> {
        let Some(sandbox) = &self.sandbox else { return Vec::new() };
        let is_outside = |path: &&Path| !sandbox.readable.iter().any(|dir| path.starts_with(dir));
        let describe = |path: &Path| {
            format!(
                "`[age]`: {} is outside the sandbox; hint: restart the service, or keep key files in one directory",
                display_path(path)
            )
        };
        new.age.files().filter(is_outside).map(describe).collect()
    }

    /// Returns an error text for each directory of a pipeline that the sandbox excludes.
    fn paths_outside_sandbox(&self, pipeline: &Pipeline) -> Vec<String> {
        let Some(sandbox) = &self.sandbox else { return Vec::new() };
        let is_outside = |path: &&Path| !sandbox.inside.iter().any(|dir| path.starts_with(dir));
        let describe = |path: &Path| {
            let key = match &pipeline.on_success {
                _ if path == pipeline.input => "input",
                _ if path == pipeline.output => "output",
                OnSuccess::Archive(archive) if path == archive => "on_success",
                _ => "quarantine",
            };
            format!(
                "`{key}` of the pipeline `{}`: {} is outside the sandbox; hint: restart the service, or set `sandbox = \"off\"` to reload such changes",
                pipeline.name,
                display_path(path)
            )
        };
        pipeline.directories().into_iter().filter(is_outside).map(describe).collect()
    }
}
