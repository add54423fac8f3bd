//! An app of the web behind the gateway: three replicas on uvicorn, as chat products have them.
//!
//! Its streams pass as they come, its sockets stay, its uploads go through, and what happens to a replica costs as
//! little as it can.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
};
use tokio_util::task::TaskTracker;
use weft_testkit::eventually;

use crate::{LIMIT, free_address, gateway::Gateway, program::Program};

/// What makes the pool one of such replicas.
const POOL: &str = "protocol = \"http\"\nhealth = { path = \"/ready\", interval = \"100ms\" }\n\
                    [[routes]]\npath_prefix = \"/\"\npool = \"testing\"";
/// Callers of each kind.
const CALLERS: usize = 4;
const UPLOAD_BYTES: usize = 200 * 1024 * 1024;
/// What the gateway may hold of it.
const HELD_BYTES: usize = 32 * 1024 * 1024;

struct Scene {
    folder: TempDir,
    replicas: Vec<(SocketAddr, Program)>,
    gateway: Gateway,
    address: SocketAddr,
}

fn replica(address: SocketAddr) -> Program {
    let libraries = std::env::var_os("WEFT_TESTS_PEERS").map(PathBuf::from);
    let libraries = libraries.unwrap_or_else(|| panic!("WEFT_TESTS_PEERS is not set: use tests/run.sh"));
    weft_testkit::record_server("uvicorn").unwrap();
    let mut command = Command::new(libraries.join("venv/bin/python"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/interop/python/app.py"))
        .arg(address.port().to_string())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    Program::spawn(&mut command)
}

impl Scene {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [(); 3].map(|()| free_address());
        let replicas = addresses.map(|address| (address, replica(address))).into();
        let gateway = Gateway::start(folder.path(), &listener, &addresses, POOL).await;
        Self { folder, replicas, gateway, address: listener.local_addr().unwrap() }
    }

    async fn end(self) {
        self.gateway.stop().await;
        for (_, mut replica) in self.replicas {
            replica.kill().await;
        }
        drop(self.folder);
    }
}

/// Sends a request on a new connection.
async fn ask(address: SocketAddr, head: &str) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(format!("{head}\r\nhost: chat.example\r\n\r\n").as_bytes()).await.unwrap();
    BufReader::new(stream)
}

/// Reads the head of an answer.
async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head}");
    }
    head
}

#[tokio::test]
async fn events_arrive_before_the_next_is_sent_and_the_app_knows_who_asks() {
    let scene = Scene::start().await;
    let mut stream = ask(scene.address, "POST /events HTTP/1.1\r\ntransfer-encoding: chunked").await;
    let mut answered = String::new();
    for i in 0..100 {
        let token = format!("token {i}");
        let chunk = format!("{:x}\r\n{token}\r\n", token.len());
        stream.write_all(chunk.as_bytes()).await.unwrap();
        while !answered.contains(&format!("data: {token}\n")) {
            assert_ne!(stream.read_line(&mut answered).await.unwrap(), 0, "{answered}");
        }
    }
    assert!(answered.contains("content-type: text/event-stream"), "{answered}");
    let lies = "x-forwarded-for: 10.1.2.3\r\nx-forwarded-proto: https\r\nconnection: close";
    let mut stream = ask(scene.address, &format!("GET /told HTTP/1.1\r\n{lies}")).await;
    head(&mut stream).await;
    let mut told = String::new();
    stream.read_to_string(&mut told).await.unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (told["client"].as_str(), told["scheme"].as_str()),
        (Some("127.0.0.1"), Some("http")),
        "{told}"
    );
    assert_eq!(told["host"], "chat.example");
    scene.end().await;
}

/// A text frame of a client (RFC 6455 §5.2).
fn frame(text: &str) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let masked = text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    [0x81, 0x80 | u8::try_from(text.len()).unwrap()].into_iter().chain(mask).chain(masked).collect()
}

/// The text of the next frame of a server.
async fn text(stream: &mut BufReader<TcpStream>) -> String {
    let [kind, length] = [stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()];
    assert_eq!(kind, 0x81);
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn sockets_are_spread_and_survive_a_reload() {
    let scene = Scene::start().await;
    let mut sockets = Vec::new();
    for _ in 0..6 {
        let upgrade = "GET /socket HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
        let mut socket = ask(scene.address, upgrade).await;
        let head = head(&mut socket).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        sockets.push((text(&mut socket).await, socket));
    }
    for (address, _) in &scene.replicas {
        let name = format!("replica {}", address.port());
        let its = sockets.iter().filter(|(said, _)| *said == name).count();
        assert_eq!(its, 2, "open sockets count: {name} has {its}");
    }
    scene
        .gateway
        .rewrite(|text| format!("{text}[[routes]]\npath = \"/new\"\nredirect = {{ path = \"/work\" }}\n"));
    let reloaded = || async {
        let mut stream = ask(scene.address, "GET /new HTTP/1.1\r\nconnection: close").await;
        head(&mut stream).await.starts_with("HTTP/1.1 302")
    };
    eventually(LIMIT, reloaded).await;
    for (_, socket) in &mut sockets {
        socket.write_all(&frame("still here")).await.unwrap();
        assert_eq!(text(socket).await, "still here");
    }
    drop(sockets);
    scene.end().await;
}

#[tokio::test]
async fn an_upload_goes_through_and_is_not_held() {
    let scene = Scene::start().await;
    let before = scene.gateway.peak_memory();
    let head_text = format!("POST /upload HTTP/1.1\r\nconnection: close\r\ncontent-length: {UPLOAD_BYTES}");
    let mut stream = ask(scene.address, &head_text).await;
    let chunk: Vec<u8> = (0..=255).cycle().take(1024 * 1024).collect();
    let mut digest = Sha256::new();
    for _ in 0..UPLOAD_BYTES / chunk.len() {
        stream.write_all(&chunk).await.unwrap();
        digest.update(&chunk);
    }
    let answered = head(&mut stream).await;
    assert!(answered.starts_with("HTTP/1.1 200"), "{answered}");
    let mut stored = String::new();
    stream.read_to_string(&mut stored).await.unwrap();
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(stored, format!("{UPLOAD_BYTES} {digest}"));
    let held = scene.gateway.peak_memory().saturating_sub(before);
    assert!(held < HELD_BYTES, "{held} bytes more than before");
    scene.end().await;
}

/// Calls over kept connections, and what became of them.
struct Callers {
    calls: Arc<[AtomicUsize; 2]>,
    /// What was answered instead.
    failures: Arc<[Mutex<Vec<String>>; 2]>,
    stopping: Arc<AtomicBool>,
    tasks: TaskTracker,
}

/// What may be sent again, and what may not.
const METHODS: [&str; 2] = ["GET", "POST"];

impl Callers {
    fn start(address: SocketAddr) -> Self {
        let callers = Self {
            calls: Arc::default(),
            failures: Arc::default(),
            stopping: Arc::default(),
            tasks: TaskTracker::new(),
        };
        for i in 0..METHODS.len() * CALLERS {
            let (calls, failures, stopping) =
                (Arc::clone(&callers.calls), Arc::clone(&callers.failures), Arc::clone(&callers.stopping));
            let kind = i % METHODS.len();
            callers.tasks.spawn(async move {
                let mut stream: Option<BufReader<TcpStream>> = None;
                while !stopping.load(Ordering::Relaxed) {
                    let open = match stream.take() {
                        Some(open) => open,
                        None => BufReader::new(TcpStream::connect(address).await.unwrap()),
                    };
                    match call(open, METHODS[kind]).await {
                        Ok(open) => stream = Some(open),
                        Err(answer) => failures[kind].lock().unwrap().push(answer),
                    }
                    calls[kind].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        callers
    }

    async fn move_on(&self) {
        let ended = || self.calls.each_ref().map(|calls| calls.load(Ordering::Relaxed));
        let before = ended();
        eventually(LIMIT, || async { ended().iter().zip(before).all(|(now, before)| *now > before + 200) })
            .await;
    }

    /// How those of each kind failed that did.
    async fn stop(self) -> [Vec<String>; 2] {
        self.stopping.store(true, Ordering::Relaxed);
        self.tasks.close();
        self.tasks.wait().await;
        self.failures.each_ref().map(|failures| std::mem::take(&mut *failures.lock().unwrap()))
    }
}

/// One call; the connection is given back when it was answered well, and otherwise what was answered.
async fn call(mut stream: BufReader<TcpStream>, method: &str) -> Result<BufReader<TcpStream>, String> {
    let mut answer = String::new();
    match answered(&mut stream, method, &mut answer).await {
        Ok(()) if answer.starts_with("HTTP/1.1 200") => Ok(stream),
        Ok(()) => Err(answer),
        Err(error) => Err(format!("{error} after: {answer}")),
    }
}

async fn answered(
    stream: &mut BufReader<TcpStream>,
    method: &str,
    answer: &mut String,
) -> std::io::Result<()> {
    let request = format!("{method} /work HTTP/1.1\r\nhost: chat.example\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    while !answer.ends_with("\r\n\r\n") {
        if stream.read_line(answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let length = answer.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await?;
    answer.push_str(&String::from_utf8_lossy(&body));
    Ok(())
}

#[tokio::test]
async fn a_killed_replica_costs_the_posts_in_flight_and_a_rolling_restart_nothing() {
    let mut scene = Scene::start().await;
    let callers = Callers::start(scene.address);
    callers.move_on().await;
    let (victim, program) = &mut scene.replicas[0];
    let victim = *victim;
    program.kill().await;
    eventually(LIMIT, || async { !scene.gateway.sends_to(victim).await }).await;
    callers.move_on().await;
    let [gets, posts] = callers.stop().await;
    eprintln!("a replica killed: {} of GET failed, {} of POST", gets.len(), posts.len());
    // uvicorn sends a head and its body one after the other: what has begun is cut, and cannot be begun again.
    let begun = |answer: &String| answer.contains(" after: HTTP/1.1 200");
    assert!(gets.iter().all(begun), "they are sent again: {gets:#?}");
    // What was in flight, and what was sent on a kept connection before its end had been seen.
    assert!(posts.len() <= 2 * CALLERS, "no more can have been under way: {posts:#?}");

    scene.replicas[0].1 = replica(victim);
    // Where it was ejected for what it failed, only a call that it answers brings it back.
    let callers = Callers::start(scene.address);
    eventually(LIMIT, || scene.gateway.sends_to(victim)).await;
    for (address, program) in &mut scene.replicas {
        // As in a cluster: first unready, and when nobody calls it any more, the end.
        program.signal("USR1").await;
        eventually(LIMIT, || async { !scene.gateway.sends_to(*address).await }).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        program.stop_anyhow().await;
        callers.move_on().await;
        *program = replica(*address);
        eventually(LIMIT, || scene.gateway.sends_to(*address)).await;
        callers.move_on().await;
    }
    assert_eq!(callers.stop().await, [const { Vec::<String>::new() }; 2]);
    scene.end().await;
}
