//! Which bytes come, whatever happens to the object meanwhile.

use futures_util::TryStreamExt;
use larder_disk::Disk;
use larder_store::{ByteRange, Store};

use crate::{
    KIB, KINDS, MIB,
    common::{Random, body, check_body, delete, finds, look, open_body, read, set, version_of},
    new, set_each_kind, with,
};

#[tokio::test]
async fn any_range_of_any_object_is_given_exactly() {
    let (folder, mut store) = with(64 * MIB, |builder| builder).await;
    let lens = [
        1,
        65_536,
        65_537,
        262_144,
        524_289,
        1 << 20,
        (1 << 20) + 1,
        3_000_001,
    ];
    for len in lens {
        set(&store, &format!("{len}"), 1, len).await;
    }
    // From the buffer or the file; then surely from the file.
    for round in 0..2 {
        let mut random = Random::seeded();
        for len in lens {
            for _ in 0..40 {
                range(&store, len as u64, &mut random).await;
            }
        }
        if round == 0 {
            store.close().await.unwrap();
            store = Disk::open(folder.store(), 64 * MIB).await.unwrap();
        }
    }
    assert_eq!(store.figures().corrupt, 0);
}

/// A range whose ends are anywhere, or just beside where a piece ends.
async fn range(store: &Disk, len: u64, random: &mut Random) {
    let mut place = || {
        let piece = [1, 4096, 65_536, 262_144][random.size_below(4)];
        let near = random.below(len / piece + 2) * piece + random.below(3);
        near.saturating_sub(1).min(len - 1)
    };
    let (one, other) = (place(), place());
    let range = one.min(other)..one.max(other) + 1;
    let name = format!("{len}");
    let part = ByteRange::try_from(range.clone()).unwrap();
    let object = look(store, &name, part).await.unwrap().unwrap();
    assert_eq!(
        (object.range.clone(), object.metadata.len()),
        (range.clone(), len)
    );
    let bytes = object.body.bytes(len).await.unwrap();
    check_body(&name, 1, &range, &bytes);
    let past = look(
        store,
        &name,
        ByteRange::try_from(range.start..len + 1).unwrap(),
    )
    .await;
    assert!(past.unwrap_err().is_invalid());
}

#[tokio::test]
async fn an_open_body_outlives_its_object() {
    for end in [
        "replaced", "deleted", "touched", "evicted", "closed", "dropped",
    ] {
        let (_folder, store) = new(16 * MIB).await;
        set_each_kind(&store, 1).await;
        let mut bodies = Vec::new();
        for (name, _) in KINDS {
            bodies.push((name, open_body(&store, name).await, None));
            let mut begun = open_body(&store, name).await;
            let first = begun.body.chunk().await.unwrap();
            bodies.push((name, begun, first));
        }
        match end {
            "replaced" => set_each_kind(&store, 2).await,
            "touched" => {
                let touch = store.as_touch().unwrap();
                for (name, _) in KINDS {
                    let draft = crate::common::draft(2);
                    let touched = touch.touch(crate::common::key(name), draft);
                    assert!(touched.await.unwrap().is_done());
                }
            }
            "evicted" => evict(&store, &KINDS).await,
            "closed" => store.close().await.unwrap(),
            "dropped" => drop(store),
            _ => {
                for (name, _) in KINDS {
                    delete(&store, name).await;
                    finds(&store, name, None).await;
                }
            }
        }
        for (name, object, first) in bodies {
            let (version, len) = (version_of(&object.metadata), object.metadata.len());
            let rest = object.body.bytes(4 * MIB).await;
            let rest = rest.unwrap_or_else(|error| panic!("{name} is {end}: {error:?}"));
            let all = [&first.unwrap_or_default()[..], &rest].concat();
            check_body(name, version, &(0..len), &all.into());
        }
    }
}

/// Writes what is hit as often as these, until these are gone. A listing hits nothing.
async fn evict(store: &Disk, kinds: &[(&str, usize)]) {
    for flood in 0..2_000 {
        for len in [30 * KIB, 300 * KIB] {
            let name = format!("flood/{len}/{flood}");
            set(store, &name, 1, len).await;
            finds(store, &name, 1).await;
            finds(store, &name, 1).await;
        }
        let keys = store.as_list().unwrap().list("");
        let keys: Vec<_> = keys.try_collect().await.unwrap();
        if !kinds
            .iter()
            .any(|(kind, _)| keys.iter().any(|key| **key == **kind))
        {
            return;
        }
    }
    panic!("they are never evicted");
}

/// What a reader opens while an object is replaced all the time is always one version, whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_one_version_while_its_object_is_replaced() {
    let (_folder, store) = new(64 * MIB).await;
    set_each_kind(&store, 0).await;
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            for version in 1..60 {
                set_each_kind(&store, version).await;
            }
        })
    };
    let mut versions = [0; 3];
    while !writer.is_finished() {
        for (index, (name, _)) in KINDS.into_iter().enumerate() {
            let version = read(name, open_body(&store, name).await).await.unwrap();
            assert!(version >= versions[index], "{name} goes back to {version}");
            versions[index] = version;
            tokio::task::yield_now().await;
        }
    }
    writer.await.unwrap();
    for (name, _) in KINDS {
        finds(&store, name, 59).await;
    }
    assert_eq!((store.figures().corrupt, store.usage().evictions), (0, 0));
}

/// Bytes that the system has not in memory come through the pool, and are the same.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn cold_bytes_are_the_same_bytes() {
    let (folder, store) = new(64 * MIB).await;
    set_each_kind(&store, 1).await;
    for version in 0..40 {
        set(&store, &format!("{version}"), version, 300 * KIB).await;
    }
    store.close().await.unwrap();
    let store = Disk::open(folder.store(), 64 * MIB).await.unwrap();
    for round in 0..3 {
        forget_pages(&folder.store());
        for (name, len) in KINDS {
            finds(&store, name, 1).await;
            let end = ByteRange::suffix(1 + len as u64 / 2).unwrap();
            let end = look(&store, name, end).await.unwrap().unwrap();
            let range = end.range.clone();
            check_body(name, 1, &range, &end.body.bytes(4 * MIB).await.unwrap());
        }
        finds(&store, &format!("{round}"), round).await;
    }
    let bytes = body("large", 1, 10);
    let first = look(&store, "large", ByteRange::try_from(0..10).unwrap()).await;
    assert_eq!(first.unwrap().unwrap().body.bytes(10).await.unwrap(), bytes);
    assert!(store.figures().cold_reads > 0, "{:?}", store.figures());
}

/// Has the system drop what it keeps of a store's files in memory.
#[cfg(target_os = "linux")]
pub(crate) fn forget_pages(root: &std::path::Path) {
    for file in crate::common::files(root) {
        let file = std::fs::File::open(root.join(file)).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
}
