//! The origin: a small HTTP server on loopback that knows entity tags.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response, StatusCode,
    body::{Frame, Incoming},
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    fs::File,
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    catalog::{Catalog, Content, Item},
    noise::Noise,
};

/// A running origin; it stops when this is dropped.
pub(crate) struct Origin {
    address: SocketAddr,
    shop: Arc<Shop>,
    server: JoinHandle<()>,
}

struct Shop {
    items: HashMap<String, Arc<Item>>,
    delay: Duration,
    requests: AtomicU64,
    not_modified: AtomicU64,
}

/// What the origin was asked so far.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) requests: u64,
    pub(crate) not_modified: u64,
}

type Answer = Response<BoxBody<Bytes, io::Error>>;

impl Origin {
    pub(crate) async fn start(catalog: &Catalog, delay: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let items = catalog
            .items()
            .map(|item| (item.path.clone(), Arc::clone(item)))
            .collect();
        let shop = Arc::new(Shop {
            items,
            delay,
            requests: AtomicU64::new(0),
            not_modified: AtomicU64::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shop)));
        Ok(Self {
            address,
            shop,
            server,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn asked(&self) -> Asked {
        Asked {
            requests: self.shop.requests.load(Ordering::Relaxed),
            not_modified: self.shop.not_modified.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shop: Arc<Shop>) {
    loop {
        match listener.accept().await {
            Ok((connection, _)) => drop(tokio::spawn(converse(connection, Arc::clone(&shop)))),
            // Out of file descriptors, say: others will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Answers the requests of one connection. Its client sees for itself when it breaks.
async fn converse(connection: TcpStream, shop: Arc<Shop>) {
    let _ = connection.set_nodelay(true);
    let service = service_fn(|request| {
        let shop = Arc::clone(&shop);
        async move { Ok::<_, Infallible>(shop.answer(&request).await) }
    });
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(connection), service)
        .await;
}

impl Shop {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        self.requests.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.delay).await;
        let path = request.uri().path_and_query();
        let Some(item) = path.and_then(|path| self.items.get(path.as_str())) else {
            return empty(StatusCode::NOT_FOUND);
        };
        let etag = item.etag();
        let mut answer = if has(request, &etag) {
            self.not_modified.fetch_add(1, Ordering::Relaxed);
            empty(StatusCode::NOT_MODIFIED)
        } else {
            match content(item).await {
                Ok(answer) => answer,
                Err(_) => return empty(StatusCode::INTERNAL_SERVER_ERROR),
            }
        };
        let etag = HeaderValue::try_from(etag).expect("digits make a header");
        answer.headers_mut().insert(ETAG, etag);
        answer
    }
}

/// Whether the client says that it has this.
fn has(request: &Request<Incoming>, etag: &str) -> bool {
    request
        .headers()
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|tag| tag.trim() == etag || tag.trim() == "*")
}

async fn content(item: &Item) -> io::Result<Answer> {
    let chunks = match &item.content {
        Content::File(path) => file(File::open(path).await?).left_stream(),
        Content::Noise { seed } => {
            stream::iter(Noise::new(*seed, item.digest.len).map(Ok)).right_stream()
        }
    };
    let body = StreamBody::new(chunks.map_ok(Frame::data));
    let mut answer = Response::new(BodyExt::boxed(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_LENGTH, item.digest.len.into());
    let bytes = HeaderValue::from_static("application/octet-stream");
    headers.insert(CONTENT_TYPE, bytes);
    Ok(answer)
}

fn file(file: File) -> impl stream::Stream<Item = io::Result<Bytes>> + Send + Sync {
    stream::try_unfold(file, |mut file| async move {
        let mut chunk = BytesMut::with_capacity(64 << 10);
        let len = file.read_buf(&mut chunk).await?;
        Ok((len > 0).then(|| (chunk.freeze(), file)))
    })
}

fn empty(status: StatusCode) -> Answer {
    let body = Empty::new().map_err(|never| match never {}).boxed();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
