//! S89: a store that is polled outside of its runtime, also when that has ended.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake},
    thread::{self, Thread},
};

use futures_util::StreamExt;
use larder_servers::Server;
use larder_store::{Draft, Store, StoreExt};

use crate::common::{hit, store};

/// Waits for a future without any runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let (mut future, mut cx) = (pin!(future), Context::from_waker(&waker));
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[test]
fn s89_a_store_may_be_polled_anywhere_and_says_when_its_runtime_has_ended() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let store = runtime.block_on(store(&server));
    let large = vec![7; 1 << 20];
    let body = block_on(async {
        for (key, bytes) in [("small", vec![1; 10]), ("large", large.clone())] {
            assert!(
                store
                    .write(key, bytes, Draft::new())
                    .await
                    .unwrap()
                    .is_done()
            );
            assert!(store.exists(key).await.unwrap());
        }
        assert_eq!(store.read("large", 1 << 20).await.unwrap().unwrap(), large);
        let listed = store.as_list().unwrap().list("");
        assert_eq!(listed.count().await, 2);
        store.remove("small").await.unwrap();
        assert!(!store.exists("small").await.unwrap());
        hit(&store, "large").await.body
    });
    drop(runtime);
    block_on(async {
        assert!(body.bytes(1 << 20).await.is_err());
        let refused = [
            store.exists("large").await.unwrap_err(),
            store.remove("large").await.unwrap_err(),
            store.write("large", "x", Draft::new()).await.unwrap_err(),
        ];
        for error in refused {
            assert!(
                error.is_closed() && error.to_string().contains("runtime"),
                "{error}"
            );
        }
    });
}
