//! The listeners of the API: HTTP at an address, and the admin Unix socket.

use std::{convert::Infallible, path::Path, sync::Arc};

use tidemill_lifecycle::Lifecycle;

use super::{
    blocking::blocking,
    error::{LIMIT, ServiceError, chain, map_start_error},
    live_config::LiveConfig,
};
use crate::{
    config::{AdminSocket, Config, Http},
    fs::{LEDGER_NAME, Socket, SocketError},
    http::{self, ApiState, App, Listener, Token, Transport},
    ledger::{self, Access, Ledger},
    limits,
    observe::{self, Observer, display_path},
};

/// Reads the token for changes over HTTP, if one is configured. Call it before the sandbox is entered.
pub fn token(config: &Config) -> Result<Option<Token>, ServiceError> {
    let Some(path) = &config.admin_token_file else { return Ok(None) };
    if let Ok(metadata) = path.metadata()
        && std::os::unix::fs::MetadataExt::mode(&metadata) & 0o044 != 0
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
            "cannot use `admin_token_file` {}: {}",
            display_path(path),
            chain(&error)
        ))
    })
}

/// Opens the configured listeners and returns their state, or `None` without a listener. They answer
/// `/livez` from here on, and `/readyz` once the service is ready.
pub async fn open(
    life: &mut Lifecycle,
    live_config: &LiveConfig,
    observer: &Arc<Observer>,
    ledger: &Arc<dyn Ledger>,
    token: Option<Token>,
) -> Result<Option<Arc<ApiState>>, ServiceError> {
    let config = &*live_config.now();
    if config.http == Http::Off && config.admin_socket == AdminSocket::Off {
        return Ok(None);
    }
    let path = config.state_dir.join(LEDGER_NAME);
    let reader = blocking(move || ledger::open(&path, Access::Reading)).await;
    let reader = reader.map_err(|error: ledger::Error| ServiceError::Storage(chain(&error)))?;
    let ledgers = (Arc::clone(ledger), reader);
    let in_force = (live_config.subscribe(), live_config.sandbox_state());
    let api_state = Arc::new(ApiState::new(life.handle().clone(), in_force, token, ledgers));
    let exporter = if config.http == Http::Off {
        None
    } else {
        let installed = observe::install_exporter();
        Some(installed.map_err(|error| ServiceError::Internal(chain(&error)))?)
    };
    let app = |transport| {
        App::new(exporter.clone(), Arc::clone(observer), Arc::clone(&api_state), transport)
    };
    open_http(life, config, app(Transport::Tcp)).await?;
    open_socket(life, config, app(Transport::Socket)).await?;
    upkeep(life, observer, exporter);
    Ok(Some(api_state))
}

async fn open_http(life: &mut Lifecycle, config: &Config, app: App) -> Result<(), ServiceError> {
    let address = config.http;
    let open = async move { http::bind(address).await.map(|bound| ((), bound)) };
    let bound = life
        .start("http", LIMIT, open, |()| async { Ok::<_, Infallible>(()) })
        .await
        .map_err(map_start_error(ServiceError::Config))?;
    let Some(bound) = bound else { return Ok(()) };
    if let Some(address) = &bound.taken {
        tracing::warn!(event = "http.address_taken", %address, "address taken, another port is used");
    }
    tracing::info!(event = "http.listening", url = %format_args!("http://{}/", bound.address), "HTTP server listening");
    serve(life, "http server", bound.listener, app);
    Ok(())
}

/// Opens the admin socket. A failure is an error only if the user named the socket.
async fn open_socket(life: &mut Lifecycle, config: &Config, app: App) -> Result<(), ServiceError> {
    let Some(path) = config.admin_socket.path(&config.state_dir) else { return Ok(()) };
    let shown_path = path.clone();
    let is_named = matches!(config.admin_socket, AdminSocket::At(_));
    let open = async move {
        match blocking({
            let path = path.clone();
            move || Socket::bind(&path)
        })
        .await
        {
            Ok((socket, listener)) => Ok((Some(socket), Some(listener))),
            Err(error) if is_named => Err(socket_error(&path, &error)),
            Err(error) => {
                let error = socket_error(&path, &error);
                tracing::warn!(event = "http.no_socket", %error, "running without an admin socket");
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
    tracing::info!(event = "http.listening", socket = %display_path(&shown_path), "admin socket listening");
    match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => serve(life, "admin server", Listener::Unix(listener), app),
        Err(error) => return Err(ServiceError::Internal(chain(&error))),
    }
    Ok(())
}

fn socket_error(path: &Path, error: &SocketError) -> String {
    format!(
        "cannot open the admin socket {}: {error}; hint: use `--admin-socket PATH` or `--admin-socket off`",
        display_path(path)
    )
}

fn serve(life: &mut Lifecycle, name: &'static str, listener: Listener, app: App) {
    life.spawn(name, LIMIT, |stop| async move {
        http::serve(listener, app, async move { stop.stopped().await }).await
    });
}

/// Bounds the memory of the metrics, and samples the time series.
fn upkeep(life: &mut Lifecycle, observer: &Arc<Observer>, exporter: Option<observe::Exporter>) {
    let observer = Arc::clone(observer);
    life.spawn("metrics upkeep", LIMIT, |stop| async move {
        let mut upkeep = tokio::time::interval(limits::METRICS_UPKEEP_INTERVAL);
        let first_sample = tokio::time::Instant::now() + limits::SAMPLE_INTERVAL;
        let mut sample = tokio::time::interval_at(first_sample, limits::SAMPLE_INTERVAL);
        while !stop.is_set() {
            tokio::select! {
                () = stop.stopped() => {}
                _ = sample.tick() => drop(observer.sample()),
                _ = upkeep.tick() => if let Some(exporter) = &exporter { exporter.upkeep() },
            }
        }
        Ok::<_, Infallible>(())
    });
}
