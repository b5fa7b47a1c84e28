//! What writers hold, and who can read it.

use std::sync::Arc;

use bytes::Bytes;
use larder_memory::Memory;
use larder_store::{Draft, Staged, Store, StoreExt};

use super::{is_there, open, set};

async fn read_all(staged: &Arc<dyn Staged>) -> Vec<u8> {
    let mut all = Vec::new();
    while let Ok(bytes) = Arc::clone(staged).read(all.len() as u64, 3).await {
        assert!(!bytes.is_empty() && bytes.len() <= 3);
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn staged_bytes_stay_after_commit_abort_and_eviction() {
    let store = Memory::builder(8 << 10).build().unwrap();
    let stage = async |name: &str| {
        let mut writer = open(&store, name, Draft::new()).await;
        let staged = writer.staged().unwrap();
        assert!(
            Arc::clone(&staged)
                .read(0, 9)
                .await
                .unwrap_err()
                .is_invalid()
        );
        for chunk in ["hel", "lo, ", "", "world"] {
            writer.write(chunk.into()).await.unwrap();
        }
        assert_eq!(read_all(&staged).await, b"hello, world");
        (writer, staged)
    };
    let (writer, committed) = stage("a").await;
    assert_eq!(store.usage().staged, 12);
    assert!(writer.commit().await.unwrap().is_done());
    assert_eq!(store.usage().staged, 0, "counts with its entry");
    assert_eq!(read_all(&committed).await, b"hello, world");

    let (writer, dropped) = stage("b").await;
    writer.abort().await.unwrap();
    assert_eq!(read_all(&dropped).await, b"hello, world");
    assert_eq!(store.usage().staged, 12, "nobody else counts them");
    drop(dropped);
    assert_eq!(store.usage().staged, 0);

    for index in 0..20 {
        set(&store, &format!("fill{index}"), 2_000).await.unwrap();
    }
    assert!(!is_there(&store, "a").await);
    assert_eq!(read_all(&committed).await, b"hello, world");
    store.close().await.unwrap();
    assert_eq!(read_all(&committed).await, b"hello, world");
    assert!(
        Arc::clone(&committed)
            .read(12, 1)
            .await
            .unwrap_err()
            .is_invalid()
    );
    assert!(
        Arc::clone(&committed)
            .read(0, 0)
            .await
            .unwrap_err()
            .is_invalid()
    );
}

#[tokio::test]
async fn a_small_slice_does_not_pin_its_parent() {
    let store = Memory::new(1 << 20);
    let parent = Bytes::from(vec![7; 1 << 20]);
    let draft = Draft::new().with(|header| {
        header.attributes = vec![("name".into(), parent.slice(3..5))];
    });
    let _ = store.write("a", parent.slice(7..9), draft).await.unwrap();
    assert!(parent.is_unique());
}
