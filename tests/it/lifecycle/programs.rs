//! The programs the children are. Each one is a whole `main`, and ends the process itself.

use std::convert::Infallible;
use std::fs::{self, DirEntry};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use tidemill::lifecycle::{Deadlines, Error, Handle, Lifecycle, Phase, Signals, Tasks};
use tokio::net::TcpListener;
use tokio::runtime::Builder;

const LIMIT: Duration = Duration::from_secs(10);
const GREETING: &str = "Hello, Async World!";

/// Counts who was greeted; must be closed by its owner.
struct Resource(Arc<AtomicU32>);

impl Resource {
    async fn close(self) -> Result<(), Infallible> {
        tokio::task::yield_now().await;
        println!("resource closed, greetings: {}", self.0.load(Ordering::Relaxed));
        Ok(())
    }
}

#[derive(Clone)]
struct Greeter {
    greetings: Arc<AtomicU32>,
    errands: Tasks,
    handle: Handle,
}

async fn greet(State(greeter): State<Greeter>) -> &'static str {
    greeter.greetings.fetch_add(1, Ordering::Relaxed);
    let errand = greeter.errands.spawn("errand", |stop| async move {
        println!("task errand begins");
        stop.stopped().await;
        println!("task errand ends");
        Ok::<_, Infallible>(())
    });
    errand.map_or("Closed.", |()| GREETING)
}

async fn greet_slowly(State(greeter): State<Greeter>) -> &'static str {
    println!("request in flight");
    let mut phase = greeter.handle.phase();
    let closing = phase.wait_for(|phase| *phase >= Phase::Closing).await.map(|phase| *phase);
    println!("{}", closing.unwrap_or(Phase::Starting));
    greeter.greetings.fetch_add(1, Ordering::Relaxed);
    println!("request answered");
    GREETING
}

async fn serve(life: &mut Lifecycle) -> Result<(), Error> {
    let open = async {
        let greetings = Arc::new(AtomicU32::new(0));
        Ok::<_, Infallible>((Resource(Arc::clone(&greetings)), greetings))
    };
    let greetings = life.start("resource", LIMIT, open, Resource::close).await?;

    life.spawn("beat", LIMIT, |stop| async move {
        let mut beats = 0_u32;
        let mut clock = tokio::time::interval(Duration::from_millis(1));
        while !stop.is_set() {
            tokio::select! {
                _ = clock.tick() => beats += 1,
                () = stop.stopped() => {}
            }
        }
        println!("task beat ends after beats: {}", beats > 0);
        Ok::<_, Infallible>(())
    });

    let greeter = Greeter { greetings, errands: life.tasks(LIMIT), handle: life.handle().clone() };
    let app =
        Router::new().route("/", get(greet)).route("/slow", get(greet_slowly)).with_state(greeter);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    life.spawn("server", LIMIT, |stop| async move {
        let stopped = async move { stop.stopped().await };
        axum::serve(listener, app).with_graceful_shutdown(stopped).await?;
        println!("server stopped");
        Ok::<_, io::Error>(())
    });

    life.handle().enter(Phase::Ready);
    println!("listening {address}");
    tokio::select! {
        () = life.handle().closing().cancelled_owned() => Ok(()),
        failure = life.handle().failed() => Err(failure.into()),
    }
}

/// A small HTTP service: a resource, a background task, requests that start more, a report.
pub fn hello() {
    begin();
    let threads_before = threads();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clean = runtime.block_on(async {
        let signals = Signals::register().unwrap();
        let mut life = Lifecycle::new(Deadlines::default(), signals).unwrap();
        let phase = life.handle().phase();
        let served = serve(&mut life).await;
        let report = life.stop().await;
        println!("{report}\n{}", *phase.borrow());
        served.is_ok() && report.is_clean()
    });
    drop(runtime);
    // A joined thread may be listed for an instant longer.
    let deadline = Instant::now() + LIMIT;
    while threads() != threads_before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    println!("threads as before: {}", threads() == threads_before);
    exit(if clean { 0 } else { 70 });
}

/// The names of the threads of this process.
fn threads() -> Vec<String> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let name = |task: io::Result<DirEntry>| fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).collect()
}

/// Prints how the stop goes, on a runtime of one thread; its clean-up never ends on its own.
pub fn course() {
    // No runtime is needed to register.
    let signals = Signals::register().unwrap();
    begin();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let mut life = Lifecycle::new(Deadlines::default(), signals).unwrap();
        let handle = life.handle().clone();
        tokio::spawn(async move {
            handle.closing().cancelled().await;
            println!("closing {}", *handle.phase().borrow());
            handle.cut().cancelled().await;
            println!("cut {}", *handle.phase().borrow());
        });
        let handle = life.handle().clone();
        life.on_close("endless", LIMIT * 10, pending::<Result<(), Infallible>>);
        handle.closing().cancelled().await;
        let report = life.stop().await;
        handle.forced_stop().await;
        println!("leave");
        report
    });
    println!("{report}");
    exit(75);
}

/// Blocks every thread of its runtime; only `leave` can end it.
pub fn hang() {
    let signals = Signals::register().unwrap();
    begin();
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let life = Lifecycle::new(Deadlines::default(), signals).unwrap();
        let leave = life.handle().forced_stop();
        let mut phase = life.handle().phase();
        tokio::spawn(async {
            println!("blocked");
            loop {
                std::thread::park();
            }
        });
        let say = async {
            while phase.changed().await.is_ok() {
                println!("{}", *phase.borrow_and_update());
            }
        };
        tokio::select! {
            () = say => {}
            () = leave => println!("leave"),
        }
    });
    exit(70);
}

/// Ends what the test harness has written on this line.
fn begin() {
    println!("\nprogram begins");
}

#[expect(clippy::disallowed_methods, reason = "the end of a `main`")]
fn exit(code: i32) -> ! {
    std::process::exit(code)
}
