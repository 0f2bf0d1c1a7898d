//! The pipelines' directories, probed and opened beside one another: those that do not answer hold up
//! their own pipeline only.

use std::{error::Error, path::Path, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::time::{interval, sleep};

use super::{
    bootstrap::directories_of,
    error::{ServiceError, blocking},
    probe,
    tasks::wait_until_excluded,
};
use crate::{
    config::{self, Config, Pipeline},
    fs::{self, SandboxScope},
    ledger::{Ledger, sqlite::Sqlite},
    limits,
    observe::{Observer, Pause, PipelineMeter, Tracer, display_path},
    patience,
    pipeline::{
        context::{Context, ContextParts, SharedEvents},
        own_paths::OwnPaths,
    },
};

pub type Failure = Box<dyn Error + Send + Sync>;
/// A pipeline's name, and what became of its directories.
pub type Opened = (Arc<str>, Result<Arc<Context>, Failure>);

/// What the contexts of all pipelines are made with.
#[derive(Clone, Debug)]
pub struct PipelineOpener {
    pub ledger: Arc<Sqlite>,
    pub events: SharedEvents,
    pub tracer: Tracer,
    pub observer: Arc<Observer>,
    pub own: Arc<OwnPaths>,
    /// Of the sandbox, where one is in force.
    pub reach: Option<Arc<SandboxScope>>,
}

/// The pipelines whose directories have not answered yet. Dropping it gives them up; the threads that
/// hang stay until the process ends.
pub struct PendingPipelines {
    opening: FuturesUnordered<BoxFuture<'static, Opened>>,
    meters: Vec<(Arc<str>, Arc<PipelineMeter>)>,
}

impl std::fmt::Debug for PendingPipelines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Late").field("opening", &self.opening.len()).finish_non_exhaustive()
    }
}

impl PipelineOpener {
    /// Probes and opens one pipeline's directories. Blocks.
    pub fn open_pipeline(
        &self,
        index: usize,
        pipeline: &Pipeline,
        config: &Config,
    ) -> Result<Arc<Context>, Failure> {
        let Self { ledger, events, tracer, observer, own, reach: _ } = self;
        // The ledger knows a pipeline by the real paths, which were not to be had where they did not answer.
        for path in pipeline.directories() {
            let real = config::real_path(path);
            if path != real {
                return Err(ServiceError::RestartRequired(format!(
                    "{} did not respond when the configuration was read, and is {}: restart the service",
                    display_path(path),
                    display_path(&real)
                ))
                .into());
            }
        }
        // Not made before the sandbox where they did not answer then.
        directories_of(pipeline, &config.state_dir)?;
        probe::pipeline(pipeline, &fs::NodeId::new(ledger.instance()))?;
        let parts = ContextParts {
            id: ledger.pipeline(&pipeline.name, &pipeline.input, &pipeline.output)?,
            ledger: Arc::clone(ledger) as Arc<dyn Ledger>,
            meter: observer.meter_of(&pipeline.name),
            tracer: tracer.clone(),
            events: Arc::clone(events),
            own_paths: Arc::clone(own),
        };
        Context::open(index, pipeline.clone(), parts).map(Arc::new).map_err(|error| {
            format!("cannot open the output {}: {error}", display_path(&pipeline.output)).into()
        })
    }

    /// As [`Self::open_pipeline`], once the directories' file systems work.
    async fn once_available(
        self,
        index: usize,
        pipeline: Pipeline,
        config: Arc<Config>,
    ) -> Result<Arc<Context>, Failure> {
        let (this, pipeline) = (Arc::new(self), Arc::new(pipeline));
        loop {
            let (this, pipeline) = (Arc::clone(&this), Arc::clone(&pipeline));
            let config = Arc::clone(&config);
            let opened = blocking(move || {
                let works = pipeline.directories().into_iter().all(patience::is_available);
                works.then(|| this.open_pipeline(index, &pipeline, &config)).transpose()
            });
            if let Some(opened) = opened.await? {
                return Ok(opened);
            }
            sleep(limits::POLL_INTERVAL).await;
        }
    }

    /// The sandbox, where it closed without a directory of this pipeline, which did not answer.
    fn kept_out(&self, pipeline: &Pipeline) -> Option<Arc<SandboxScope>> {
        let is_out = |reach: &Arc<SandboxScope>| {
            pipeline.directories().into_iter().any(|place| reach.was_silent(place))
        };
        self.reach.clone().filter(is_out)
    }

    /// Those that answer in time, and the rest.
    ///
    /// # Errors
    ///
    /// A directory cannot do what the configuration needs, or the ledger failed.
    pub async fn all(
        &self,
        config: &Arc<Config>,
    ) -> Result<(Vec<Arc<Context>>, PendingPipelines), Failure> {
        let patience =
            if config.once { limits::ONCE_STORAGE_TIMEOUT } else { limits::START_TIMEOUT };
        let open = |(index, pipeline): (usize, &Pipeline)| {
            let (this, config, name) =
                (self.clone(), Arc::clone(config), Arc::clone(&pipeline.name));
            let pipeline = pipeline.clone();
            if let Some(reach) = self.kept_out(&pipeline) {
                let places =
                    move || pipeline.directories().into_iter().map(Path::to_path_buf).collect();
                return async move { (name, Err(wait_until_excluded(&reach, places).await.into())) }.boxed();
            }
            // Begun at once, and not when it is looked at.
            let opened = tokio::spawn(this.once_available(index, pipeline, config));
            async move {
                let opened = opened.await.unwrap_or_else(|error| Err(error.into()));
                (name, opened)
            }
            .boxed()
        };
        let mut opening: FuturesUnordered<_> =
            config.pipelines.iter().enumerate().map(open).collect();
        let mut contexts: Vec<Arc<Context>> = Vec::with_capacity(opening.len());
        let mut patience = std::pin::pin!(sleep(patience));
        loop {
            tokio::select! {
                biased;
                opened = opening.next() => match opened {
                    Some((_, opened)) => contexts.push(opened?),
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        contexts.sort_by_key(|context| context.index);
        let is_late =
            |pipeline: &&Pipeline| !contexts.iter().any(|context| *context.name() == pipeline.name);
        let late = config.pipelines.iter().filter(is_late);
        let meter = |pipeline: &Pipeline| {
            (Arc::clone(&pipeline.name), self.observer.meter_of(&pipeline.name))
        };
        let meters = late.map(meter).collect();
        Ok((contexts, PendingPipelines { opening, meters }))
    }
}

impl PendingPipelines {
    /// Their names; each is logged, and shown as paused.
    pub fn announce(&self) -> Vec<Arc<str>> {
        let tell = |(name, meter): &(Arc<str>, Arc<PipelineMeter>)| {
            let reason = "its directories do not respond";
            tracing::warn!(event = "pipeline.waiting", pipeline = %name, "waiting for the directories of a pipeline");
            meter.paused(Pause::Input, Some(reason));
            Arc::clone(name)
        };
        self.meters.iter().map(tell).collect()
    }

    /// The next one whose directories answered or failed; `None` where there is none left. Cancel-safe.
    pub async fn next(&mut self) -> Option<Opened> {
        let mut beat = interval(limits::HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                answered = self.opening.next() => return answered,
                // There is no intake yet that could.
                _ = beat.tick() => for (_, meter) in &self.meters { meter.beat() },
            }
        }
    }
}
