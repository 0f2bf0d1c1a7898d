//! The doors to the service while it runs: HTTP at an address, and the operator's Unix socket.

use std::{convert::Infallible, path::Path, sync::Arc};

use super::{
    error::{LIMIT, ServiceError, blocking, chain, map_start_error},
    live_config::LiveConfig,
};
use crate::{
    config::{AdminSocket, Config, Http},
    fs::{Socket, SocketError},
    http::{self, ApiState, App, Listener, Token, Transport},
    ledger::{self, Ledger, sqlite::Sqlite},
    lifecycle::Lifecycle,
    limits,
    observe::{self, Observer, display_path},
};

/// The secret for changes over HTTP, read before the sandbox closes; none where none is configured.
pub fn token(config: &Config) -> Result<Option<Token>, ServiceError> {
    let Some(path) = &config.admin_token_file else { return Ok(None) };
    if let Ok(about) = path.metadata()
        && std::os::unix::fs::MetadataExt::mode(&about) & 0o044 != 0
    {
        tracing::warn!(
            event = "http.token_readable", file = %display_path(path),
            hint = "chmod 600",
            "`admin_token_file` is readable by other users"
        );
    }
    let token = Token::read(path);
    token.map(Some).map_err(|error| {
        ServiceError::Config(format!(
            "`admin_token_file` {}: {}",
            display_path(path),
            chain(&error)
        ))
    })
}

/// The doors that are configured, and the desk behind them; they answer `/livez` from here on,
/// `/readyz` when the service is ready. None where there is no door.
pub async fn open(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    observer: &Arc<Observer>,
    ledger: &Arc<Sqlite>,
    token: Option<Token>,
) -> Result<Option<Arc<ApiState>>, ServiceError> {
    let config = &*live_config.now();
    if config.http == Http::Off && config.admin_socket == AdminSocket::Off {
        return Ok(None);
    }
    let path = config.state_dir.join("ledger.sqlite");
    let reader = blocking(move || Sqlite::open_read_only(&path)).await;
    let reader = reader.map_err(|error: ledger::Error| ServiceError::Storage(chain(&error)))?;
    let ledgers = (Arc::clone(ledger) as Arc<dyn Ledger>, Arc::new(reader) as Arc<dyn Ledger>);
    let state =
        Arc::new(ApiState::new(life.handle().clone(), live_config.subscribe(), token, ledgers));
    let exporter = if config.http == Http::Off {
        None
    } else {
        let installed = observe::install_exporter();
        Some(installed.map_err(|error| ServiceError::Internal(chain(&error)))?)
    };
    let app = |door| App::new(exporter.clone(), Arc::clone(observer), Arc::clone(&state), door);
    at_address(life, config, app(Transport::Tcp)).await?;
    at_socket(life, config, app(Transport::Socket)).await?;
    upkeep(life, observer, exporter);
    Ok(Some(state))
}

async fn at_address(life: &mut Lifecycle, config: &Config, app: App) -> Result<(), ServiceError> {
    let wanted = config.http;
    let open = async move { http::bind(wanted).await.map(|bound| ((), bound)) };
    let bound = life
        .start("http", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_start_error(ServiceError::Config))?;
    let Some(bound) = bound else { return Ok(()) };
    if let Some(note) = &bound.note {
        tracing::warn!(event = "http.note", "{note}");
    }
    tracing::info!(event = "http.listening", url = %format_args!("http://{}/", bound.address), "HTTP server listening");
    serve(life, "http server", bound.listener, app);
    Ok(())
}

/// One that the user named is there, or the service does not start; the default one may be missing.
async fn at_socket(life: &mut Lifecycle, config: &Config, app: App) -> Result<(), ServiceError> {
    let Some(path) = config.admin_socket.path(&config.state_dir) else { return Ok(()) };
    let shown = path.clone();
    let is_named = matches!(config.admin_socket, AdminSocket::At(_));
    let open = async move {
        match blocking({
            let path = path.clone();
            move || Socket::bind(&path)
        })
        .await
        {
            Ok((socket, listener)) => Ok((Some(socket), Some(listener))),
            Err(error) if is_named => Err(without_socket(&path, &error)),
            Err(error) => {
                tracing::warn!(event = "http.no_socket", "{}", without_socket(&path, &error));
                Ok((None, None))
            }
        }
    };
    let close = |socket: Option<Socket>| blocking(move || socket.map_or(Ok(()), Socket::remove));
    let listener = life
        .start("admin socket", LIMIT, open, close)
        .await
        .map_err(map_start_error(ServiceError::Config))?;
    let Some(listener) = listener else { return Ok(()) };
    tracing::info!(event = "http.listening", socket = %display_path(&shown), "admin socket listening");
    match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => serve(life, "admin server", Listener::Unix(listener), app),
        Err(error) => return Err(ServiceError::Internal(chain(&error))),
    }
    Ok(())
}

fn without_socket(path: &Path, error: &SocketError) -> String {
    format!(
        "no admin socket at {}: {error}; name another with `--admin-socket PATH`, or `--admin-socket off`",
        display_path(path)
    )
}

fn serve(life: &mut Lifecycle, name: &'static str, listener: Listener, app: App) {
    life.spawn(name, LIMIT, |stop| async move {
        http::serve(listener, app, async move { stop.stopped().await }).await
    });
}

/// Keeps the metrics' memory small, and the live series going.
fn upkeep(life: &mut Lifecycle, observer: &Arc<Observer>, exporter: Option<observe::Exporter>) {
    let observer = Arc::clone(observer);
    life.spawn("metrics upkeep", LIMIT, |stop| async move {
        let mut every = tokio::time::interval(limits::METRICS_UPKEEP_INTERVAL);
        let begin = tokio::time::Instant::now() + limits::SAMPLE_INTERVAL;
        let mut points = tokio::time::interval_at(begin, limits::SAMPLE_INTERVAL);
        while !stop.is_set() {
            tokio::select! {
                () = stop.stopped() => {}
                _ = points.tick() => drop(observer.sample()),
                _ = every.tick() => if let Some(exporter) = &exporter { exporter.upkeep() },
            }
        }
        Ok::<_, Infallible>(())
    });
}
