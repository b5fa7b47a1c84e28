//! A hit allocates nothing. A binary of its own: the allocator counts for the whole process.

use bytes::Bytes;
use futures_util::FutureExt;
use larder_memory::Memory;
use larder_store::{ByteRange, Draft, Key, Lookup, Store, StoreExt, Timestamp};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

fn blocks() -> u64 {
    dhat::HeapStats::get().total_blocks
}

#[test]
fn a_hit_allocates_nothing() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let memory = Memory::new(1 << 20);
    let store: &dyn Store = &memory;
    // Written whole, with an expiry that has to be asked about, and in odd pieces.
    let draft = Draft::new().with(|header| {
        header.content_type = Some("text/plain".into());
        header.tags = vec!["a".into()];
        header.attributes = vec![("name".into(), Bytes::from(vec![1; 9]))];
        header.expires_at = Some(Timestamp::from_millis(u64::MAX - 1));
    });
    let body = Bytes::from(vec![7; 4096]);
    let written = memory.write("whole", body, draft.clone()).now_or_never();
    assert!(written.expect("ready").expect("written").is_done());
    let key = Key::new("pieces").unwrap();
    let opened = store.set_with_writer(key, Draft::new()).now_or_never();
    let mut writer = opened.expect("ready").expect("opened");
    for _ in 0..3 {
        let chunk = Bytes::from(vec![7; 1001]);
        writer.write(chunk).now_or_never().unwrap().unwrap();
    }
    let committed = writer.commit().now_or_never().unwrap();
    assert!(committed.unwrap().is_done());

    // From the very first hit on.
    let ranges = [
        ByteRange::FULL,
        ByteRange::try_from(5..17).unwrap(),
        ByteRange::suffix(3).unwrap(),
    ];
    let before = blocks();
    for round in 0..100 {
        for key in ["whole", "pieces"] {
            let key = Key::new(key).unwrap();
            let reply = store.get_stream(key, ranges[round % 3]);
            let Some(Ok(Lookup::Hit(mut object))) = reply.now_or_never() else {
                panic!("no hit");
            };
            let chunk = object.body.chunk().now_or_never().unwrap();
            assert!(chunk.unwrap().is_some());
            assert!(object.metadata.ttl.is_none());
            let stat = store.stat(key).now_or_never().unwrap();
            assert!(stat.unwrap().is_some());
        }
    }
    assert_eq!(blocks(), before);
    let missing = Key::new("missing").unwrap();
    drop(store.get_stream(missing, ByteRange::FULL));
    assert!(blocks() > before, "the count counts");
}
