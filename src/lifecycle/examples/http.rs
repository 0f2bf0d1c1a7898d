//! A small HTTP service that counts its visitors: `http ADDRESS FILE`, where FILE has their number
//! so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::{convert::Infallible, env, fs, io, process::ExitCode, sync::Arc, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use tidemill_lifecycle::{BoxError, Deadlines, Lifecycle, Phase, Signals};
use tokio::sync::{Semaphore, oneshot};
use tokio::{net::TcpListener, runtime::Runtime, time};

/// Limit of each open, each close, and of a task once it is signalled to stop.
const LIMIT: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 4;

/// Stands for a pool of connections to a database, which is a file.
struct Pool {
    connections: Semaphore,
    visits: AtomicU64,
    file: String,
}

impl Pool {
    fn open(file: String) -> Result<Self, BoxError> {
        let visits = AtomicU64::new(fs::read_to_string(&file)?.trim().parse()?);
        Ok(Self { connections: Semaphore::new(CONNECTIONS as usize), visits, file })
    }

    async fn visit(&self) -> u64 {
        let _connection = self.connections.acquire().await;
        self.visits.fetch_add(1, Relaxed) + 1
    }

    async fn close(self: Arc<Self>) -> io::Result<()> {
        let _all = self.connections.acquire_many(CONNECTIONS).await;
        fs::write(&self.file, self.visits.load(Relaxed).to_string())
    }
}

/// Opens the resources in order and waits for a reason to stop.
async fn serve(life: &mut Lifecycle) -> Result<(), BoxError> {
    let [address, file] = [1, 2].map(|number| env::args().nth(number).unwrap_or_default());
    // The lifecycle keeps one handle for the close; the caller uses the other.
    let open = async { Pool::open(file).map(Arc::new).map(|pool| (Arc::clone(&pool), pool)) };
    let pool = life.start("pool", LIMIT, open, Pool::close).await?;

    let counted = Arc::clone(&pool);
    life.spawn("statistics", LIMIT, |stop| async move {
        while time::timeout(Duration::from_mins(1), stop.stopped()).await.is_err() {
            println!("{} visits", counted.visits.load(Relaxed));
        }
        println!("statistics stopped");
        Ok::<_, Infallible>(())
    });

    let phase = life.handle().phase();
    let is_ready = move || *phase.borrow() == Phase::Ready;
    let ready =
        async move || if is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let greet = async move |note: String| format!("visitor {}\n{note}", pool.visit().await);
    let router =
        Router::new().route("/", get(greet.clone()).post(greet)).route("/ready", get(ready));
    let open = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let server = axum::serve(listener, router);
        let server = server.with_graceful_shutdown(async { drop(stopped.await) });
        Ok::<_, io::Error>(((stop, tokio::spawn(server.into_future())), address))
    };
    // Without its sender the server stops, once the requests in flight are answered.
    let close = async |(stop, server)| {
        drop(stop);
        server.await?
    };
    println!("listening on {}", life.start("http", LIMIT, open, close).await?);

    life.handle().enter(Phase::Ready);
    tokio::select! {
        () = life.handle().closing().cancelled_owned() => {} // SIGTERM or Ctrl-C
        failure = life.handle().failed() => return Err(failure.into()),
    }
    // A load balancer sees `/ready` fail and sends no more requests. A second signal ends the wait.
    life.handle().cut().run_until_cancelled(time::sleep(Duration::from_secs(5))).await;
    life.handle().enter(Phase::Draining);
    Ok(())
}

fn main() -> Result<ExitCode, BoxError> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).without_time().init();
    let mut life = Lifecycle::new(Deadlines::default(), Signals::register()?)?;
    let forced_stop = life.handle().forced_stop();
    let runtime = Runtime::new()?;
    let service = runtime.spawn(async move {
        let served = serve(&mut life).await;
        let report = life.stop().await; // also after a failed start
        println!("{report}");
        served.map(|()| report.is_clean())
    });
    let is_clean = runtime.block_on(async {
        tokio::select! {
            served = service => served?,
            // A thread is blocked, and `stop` may not return.
            () = async { forced_stop.await; time::sleep(Duration::from_secs(2)).await } => Ok(false),
        }
    });
    runtime.shutdown_background(); // A drop would wait for blocked threads.
    Ok(if is_clean? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
