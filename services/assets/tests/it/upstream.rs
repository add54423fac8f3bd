//! An origin that does as it is told: it answers, waits, breaks off, or is gone.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// Path with its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(had, _)| had == name).map(|(_, value)| &**value)
    }
}

/// What to answer.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Answers 304 to whoever has this.
    etag: Option<String>,
    /// Says this length instead of its own.
    says: Option<usize>,
    chunked: bool,
    /// Breaks off instead of ending.
    breaks_off: bool,
    /// Never answers.
    hangs: bool,
    /// Waits so long before each byte of the body.
    drips: Option<Duration>,
}

impl Page {
    pub(crate) fn new(content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            status: 200,
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
            etag: None,
            says: None,
            chunked: false,
            breaks_off: false,
            hangs: false,
            drips: None,
        }
    }

    pub(crate) fn css(body: &str) -> Self {
        Self::new("text/css", body)
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.into());
        self.header("etag", etag)
    }

    pub(crate) fn says(mut self, length: usize) -> Self {
        self.says = Some(length);
        self
    }

    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    pub(crate) fn breaks_off(mut self) -> Self {
        self.breaks_off = true;
        self
    }

    pub(crate) fn hangs(mut self) -> Self {
        self.hangs = true;
        self
    }

    pub(crate) fn drips(mut self, every: Duration) -> Self {
        self.drips = Some(every);
        self
    }

    fn bytes(&self, asked: &Asked) -> Vec<u8> {
        let confirmed = self.etag.as_deref().is_some_and(|etag| asked.header("if-none-match") == Some(etag));
        let status = if confirmed { 304 } else { self.status };
        let mut out = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n");
        for (name, value) in &self.headers {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut out = out.into_bytes();
        if confirmed {
            out.extend(b"\r\n");
        } else if self.chunked {
            out.extend(format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", self.body.len()).bytes());
            out.extend(&self.body);
            out.extend(if self.breaks_off { &b"\r\n"[..] } else { b"\r\n0\r\n\r\n" });
        } else {
            let length = self.says.unwrap_or(self.body.len());
            out.extend(format!("content-length: {length}\r\n\r\n").bytes());
            if asked.method != "HEAD" {
                out.extend(&self.body);
            }
        }
        out
    }
}

type Script = Box<dyn Fn(&Asked) -> Page + Send + Sync>;

/// A running origin.
pub(crate) struct Upstream {
    address: SocketAddr,
    state: Arc<State>,
    serving: JoinSet<()>,
}

struct State {
    pages: Mutex<HashMap<String, Arc<Script>>>,
    asked: Mutex<Vec<Asked>>,
    /// Answers wait while it is closed.
    gate: watch::Sender<bool>,
}

impl Upstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            pages: Mutex::default(),
            asked: Mutex::default(),
            gate: watch::channel(true).0,
        });
        let serving = JoinSet::from_iter([serve(listener, state.clone())]);
        Self { address, state, serving }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives a page at a path with its query; everything else is 404.
    pub(crate) fn give(&self, path: &str, page: Page) {
        self.script(path, move |_| page.clone());
    }

    /// Decides on each request.
    pub(crate) fn script(&self, path: &str, script: impl Fn(&Asked) -> Page + Send + Sync + 'static) {
        self.state.pages.lock().unwrap().insert(path.into(), Arc::new(Box::new(script)));
    }

    /// The requests for a path so far.
    pub(crate) fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.state.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// All requests so far.
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// Lets answers wait.
    pub(crate) fn close_gate(&self) {
        self.state.gate.send_replace(false);
    }

    pub(crate) fn open_gate(&self) {
        self.state.gate.send_replace(true);
    }

    /// Refuses connections.
    pub(crate) async fn stop(&mut self) {
        self.serving.shutdown().await;
    }

    /// Takes them again.
    pub(crate) async fn restart(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.serving.spawn(serve(listener, self.state.clone()));
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(answer(stream, state.clone()));
    }
}

async fn answer(mut stream: TcpStream, state: Arc<State>) {
    let Some(asked) = read(&mut stream).await else { return };
    state.asked.lock().unwrap().push(asked.clone());
    let mut gate = state.gate.subscribe();
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    let script = state.pages.lock().unwrap().get(&asked.path).cloned();
    let missing = || Page::new("text/plain", "nothing here").status(404);
    let page = script.map_or_else(missing, |script| script(&asked));
    if page.hangs {
        std::future::pending::<()>().await;
    }
    let bytes = page.bytes(&asked);
    let at_once = page.drips.map_or(bytes.len(), |_| bytes.len() - page.body.len());
    let _ = stream.write_all(&bytes[..at_once]).await;
    for byte in &bytes[at_once..] {
        tokio::time::sleep(page.drips.unwrap_or_default()).await;
        let _ = stream.write_all(&[*byte]).await;
    }
    let _ = stream.shutdown().await;
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut asked = Asked { method, path, headers, body: bytes.split_off(end + 4) };
    let length = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while asked.body.len() < length {
        if stream.read_buf(&mut asked.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(asked)
}
