//! Clauses 13 and 14: each key its own object, and one answer about it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::TryStreamExt;
use larder_store::{
    ByteRange, Commit, Draft, EntityTag, Header, Key, Lookup, METADATA_LEN_MAX, Metadata, Store,
    Timestamp,
};

use crate::{
    Setup, Subject,
    probe::{counts, delete, finds, hit, key, open, pattern, put, set, stat},
};

/// Clause 13: every valid key works, and none is taken for another. (S59)
pub async fn clause_13_odd_keys(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let names = odd_names();
    // Bodies of no bytes among them.
    let len = |id: usize| (id % 3) * 700;
    for (id, name) in names.iter().enumerate() {
        finds(&store, name, None).await;
        set(&store, name, id as u64, len(id)).await;
    }
    counts(&store, "no two keys share an entry", |usage| {
        usage.entries == names.len() as u64
    });
    for (id, name) in names.iter().enumerate() {
        finds(&store, name, id as u64).await;
        assert_eq!(hit(&store, name).await.metadata.len(), len(id) as u64);
    }
    if let Some(list) = store.as_list() {
        let listed = list
            .list("")
            .map_ok(|key| key.to_string())
            .try_collect::<Vec<_>>()
            .await;
        let mut listed = listed.expect("a list succeeds");
        let mut all = names.clone();
        listed.sort();
        all.sort();
        assert!(listed == all, "the list gives every key back as it was");
    }
    for (id, name) in names.iter().enumerate() {
        if id % 2 == 0 {
            delete(&store, name).await;
        }
    }
    for (id, name) in names.iter().enumerate() {
        finds(&store, name, (id % 2 == 1).then_some(id as u64)).await;
    }
}

#[rustfmt::skip] // One a line says no more.
const ODD: &[&str] = &[
    "a", "A", "aa", "a/", "a//", "/a", "//a", ".", "..", "../a", "a/..", "a/../b", "b", "a/b",
    "/", "//", "./a", "a/.", "~", "a\\b", "a%2Fb", "%2F", "%", "%00", "\0", "a\0", "a\0b", "\n",
    "a\n", "a\r\n", "\t", "\u{1b}[0m", "\u{7f}", " ", " a", "a ", "é", "e\u{301}", "É", "ß",
    "ss", "SS", "ı", "i", "I", "\u{feff}a", "\u{200b}", "日本", "🦀", "🦀🦀", "con", "NUL", "a:b",
    "a*b?", "[a]", "{a}", "<a>|", "\"", "'", "`$(a)`", "-rf", "--", "a.tmp", "a.lock",
    ".hidden", "meta", "data", "key", "key1", "key10", "key:1", "0", "00", "1e3", "null",
];

fn odd_names() -> Vec<String> {
    let longest = "k".repeat(Key::LEN_MAX - 1);
    let mut names: Vec<String> = ODD.iter().map(|name| (*name).to_owned()).collect();
    names.extend(["", "j", "k", "/", "\0"].map(|end| format!("{longest}{end}")));
    names.extend([
        longest[1..].to_owned(),
        "é".repeat(2048),
        "/".repeat(4096),
        "../".repeat(900),
    ]);
    names.extend([
        format!("j{longest}"),
        "K".repeat(Key::LEN_MAX),
        "\0".repeat(255),
    ]);
    names.extend((250..260).map(|len| "n".repeat(len)));
    let distinct: BTreeSet<_> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a name is there twice");
    names
}

/// Clause 14: commit, `stat` and `get_stream` give the same metadata, which is what was written.
pub async fn clause_14_same_answers(subject: &impl Subject) {
    let store = subject.make(Setup::default()).await;
    let mut versions = Vec::new();
    for (number, header) in headers().into_iter().enumerate() {
        let len = if header.absent { 0 } else { 100 * number };
        for _ in 0..2 {
            let body = pattern(number as u64, len);
            let committed = put(&store, "a", Draft::from(header.clone()), &body).await;
            versions.push(agree(&store, committed, &header, len as u64).await);
        }
    }
    if let Some(touch) = store.as_touch() {
        for header in headers().into_iter().filter(|header| !header.absent) {
            set(&store, "a", 1, 321).await;
            let touched = touch.touch(key("a"), Draft::from(header.clone())).await;
            let touched = touched.expect("a touch succeeds");
            versions.push(agree(&store, touched, &header, 321).await);
        }
    }
    let distinct: BTreeSet<_> = versions.iter().map(|version| version.0).collect();
    assert_eq!(
        distinct.len(),
        versions.len(),
        "two commits of one key have one version"
    );
}

/// Asserts that all who tell of the object tell the same, and gives the version.
async fn agree<S: Store>(
    store: &S,
    committed: Commit,
    header: &Header,
    len: u64,
) -> larder_store::Version {
    let Commit::Done(Some(committed)) = committed else {
        panic!("a commit gives the metadata, not {committed:?}");
    };
    assert_eq!(committed.header(), header, "the header as it was written");
    assert_eq!(committed.len(), len, "the length that was written");
    let stat = stat(store, "a").await.expect("it is there");
    assert_eq!(stat, committed, "stat, and what the commit said");
    let mut answers: Vec<Arc<Metadata>> = vec![hit(store, "a").await.metadata];
    for range in [ByteRange::from(1..), ByteRange::suffix(1).expect("a range")] {
        if len > 1 {
            match store
                .get_stream(key("a"), range)
                .await
                .expect("a range is given")
            {
                Lookup::Hit(object) => answers.push(object.metadata),
                Lookup::Miss(_) => panic!("it is there"),
            }
        }
    }
    for answer in answers {
        assert_eq!(answer, stat, "get_stream, and stat");
    }
    // S30: what is written next does not change what was handed out.
    drop(open(store, "a", Draft::new()).await);
    assert_eq!(stat.header(), header);
    stat.version()
}

/// Headers with each field set, alone and together, to values that are easily lost.
fn headers() -> Vec<Header> {
    let tag = |tag: larder_store::Result<EntityTag>| Some(tag.expect("a valid tag"));
    // The year 2100: whoever hands times to a server must not see it expire.
    let late = Timestamp::from_millis(4_102_444_800_123);
    let changes: [fn(&mut Header, Option<EntityTag>, Timestamp); 11] = [
        |_, _, _| {},
        |header, tag, _| header.etag = tag,
        |header, _, late| header.last_modified = Some(late),
        |header, _, _| header.content_type = Some("text/plain; charset=\"utf-8\"".into()),
        |header, _, late| header.fetched_at = late,
        |header, _, _| header.ttl = Some(Duration::from_millis(61_001)),
        |header, _, _| header.stale_while_revalidate = Duration::from_millis(3),
        |header, _, _| header.stale_if_error = Duration::from_secs(86_400 * 365),
        |header, _, late| header.expires_at = Some(late),
        |header, _, _| header.tags = vec!["a".into(), "".into(), "ü, \n".into(), "a".into()],
        |header, _, _| {
            let value = Bytes::from_static(&[0, 255, 128, 10, 13]);
            header.attributes = vec![("a".into(), value), ("a".into(), Bytes::new())];
            header
                .attributes
                .push(("".into(), Bytes::from_static(b"\r\n")));
        },
    ];
    let mut headers = Vec::new();
    let mut all = Header::default();
    for (number, change) in changes.into_iter().enumerate() {
        let etag = tag(if number % 2 == 0 {
            EntityTag::strong("v1,é")
        } else {
            EntityTag::weak("")
        });
        let mut one = Header::default();
        change(&mut one, etag.clone(), late);
        change(&mut all, etag, late);
        headers.push(one);
    }
    let mut strong = Header::default();
    strong.etag = tag(EntityTag::strong("v1,é"));
    let mut zero = Header::default();
    zero.ttl = Some(Duration::ZERO);
    zero.last_modified = Some(Timestamp::EPOCH);
    zero.content_type = Some("".into());
    let mut absent = all.clone();
    absent.absent = true;
    let mut largest = all.clone();
    let value = METADATA_LEN_MAX - largest.size() - 2 * Header::ITEM_SIZE;
    largest.attributes.push(("".into(), vec![9; value].into()));
    headers.extend([strong, zero, absent, largest, all]);
    headers
}
