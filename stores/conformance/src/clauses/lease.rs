//! The lease, where a store claims it.
//!
//! Nothing here depends on being quick: a lease that must last is asked for long, and one that must
//! end is waited for longer than it lasts.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use larder_store::{Draft, Fence, Holder, LEASE_TTL_MAX, Lease, Leased, Store, Terms};

use crate::{
    Setup, Subject,
    probe::{
        PROMPT, delete, draft, expect_err, fence, finds, key, open, pattern, set, set_fenced,
        within, write,
    },
};

/// Longer than any clause.
const LONG: Duration = Duration::from_secs(600);
/// Soon over.
const SHORT: Duration = Duration::from_millis(200);
/// After this what was [`SHORT`] is over, by whichever clock.
const OVER: Duration = Duration::from_millis(500);

/// `Lease` has one holder a key, whose fence holds for as long as the lease does. Passes where the
/// store does not claim it.
pub async fn capability_lease(subject: &impl Subject) {
    let store = Arc::new(subject.make(Setup::default()).await);
    if store.as_lease().is_none() {
        return;
    }
    for round in 0..5 {
        one_of_many_holds(&store, &format!("race/{round}")).await;
    }
    let store = &*store;
    for way in ["set", "delete", "touch"] {
        the_holder_changes_the_key(store, way).await;
    }
    for event in ["set", "fenced set", "delete", "touch"] {
        others_change_the_key(store, event).await;
    }
    what_changes_nothing_ends_nothing(store).await;
    renewed(store).await;
    expired(store).await;
    released(store).await;
    limits(store).await;
    strangers(store, subject).await;
}

fn lease<S: Store>(store: &S) -> &dyn Lease {
    let lease = store.as_lease();
    lease.expect("it was there when it was asked for")
}

fn terms(who: &str, ttl: Duration) -> Terms {
    let (who, why) = (who.into(), "fill".into());
    Terms { who, why, ttl }
}

async fn acquire<S: Store>(store: &S, name: &str, fence: &Fence, terms: &Terms) -> Leased {
    let acquired = lease(store).acquire(key(name), fence, terms).await;
    acquired.expect("a lease can be asked for")
}

/// The fence of a lease that must be free.
async fn granted<S: Store>(store: &S, name: &str, fence: &Fence, terms: &Terms) -> Fence {
    match acquire(store, name, fence, terms).await {
        Leased::Granted(fence) => fence,
        other => panic!("the lease of {name:?} is free, and not {other:?}"),
    }
}

/// Asserts that the lease is somebody's, and gives what is told of them.
async fn taken<S: Store>(store: &S, name: &str, who: &str) -> Holder {
    let fence = fence(store, name).await;
    let asked = acquire(store, name, &fence, &terms("a stranger", LONG)).await;
    let Leased::Taken(holder) = asked else {
        panic!("{who:?} holds the lease of {name:?}, and not {asked:?}");
    };
    assert_eq!((&*holder.who, &*holder.why), (who, "fill"));
    assert!(holder.left > Duration::ZERO && holder.left <= LONG);
    holder
}

async fn renew<S: Store>(store: &S, name: &str, fence: &Fence, ttl: Duration) -> bool {
    let renewed = lease(store).renew(key(name), fence, ttl).await;
    renewed.expect("a lease can be renewed, or is lost")
}

async fn release<S: Store>(store: &S, name: &str, fence: &Fence) {
    let released = lease(store).release(key(name), fence).await;
    released.expect("a lease can be released, or is lost");
}

/// Deletes under a fence, and tells whether it was done.
async fn delete_fenced<S: Store>(store: &S, name: &str, fence: &Fence) -> bool {
    let deleted = store.delete(key(name), Some(fence.clone())).await;
    deleted.expect("superseded is not an error").is_done()
}

/// Touches under a fence, and tells whether it was done; `None` where the store cannot touch.
async fn touch_fenced<S: Store>(store: &S, name: &str, fence: &Fence) -> Option<bool> {
    let draft = draft(1).fence(fence.clone());
    let touched = store.as_touch()?.touch(key(name), draft).await;
    Some(touched.expect("superseded is not an error").is_done())
}

/// Asserts that a fence neither holds the lease nor lets anything through; what is under the key
/// stays.
async fn holds_nothing<S: Store>(store: &S, name: &str, fence: &Fence, why: &str) {
    assert!(!renew(store, name, fence, LONG).await, "renewed, {why}");
    assert!(!set_fenced(store, name, 66, fence).await, "a set, {why}");
    assert!(!delete_fenced(store, name, fence).await, "a delete, {why}");
    let touched = touch_fenced(store, name, fence).await;
    assert!(touched != Some(true), "a touch, {why}");
    release(store, name, fence).await;
}

/// Of all who ask with fences of one moment one is granted, and the others hear of them at once.
async fn one_of_many_holds<S: Store>(store: &Arc<S>, name: &str) {
    let tasks = (0..50).map(|id| {
        let (store, name) = (Arc::clone(store), name.to_owned());
        tokio::spawn(async move {
            let fence = fence(&*store, &name).await;
            let who = format!("task {id}");
            let acquired = acquire(&*store, &name, &fence, &terms(&who, LONG)).await;
            (who, acquired)
        })
    });
    let (mut holders, mut told) = (Vec::new(), Vec::new());
    for joined in join_all(tasks).await {
        match joined.expect("a request does not fail") {
            (who, Leased::Granted(fence)) => holders.push((who, fence)),
            (_, Leased::Taken(holder)) => told.push(holder),
            (who, Leased::Superseded) => panic!("nothing happened, but {who} was superseded"),
        }
    }
    assert_eq!(holders.len(), 1, "one holder a key");
    let (who, grant) = &holders[0];
    for holder in told {
        assert_eq!((&*holder.who, &*holder.why), (&**who, "fill"));
        assert!(holder.left > Duration::ZERO && holder.left <= LONG);
    }
    let other = {
        let (store, name, who) = (Arc::clone(store), name.to_owned(), who.clone());
        async move { taken(&*store, &name, &who).await }
    };
    within(PROMPT, "asking for a lease that is taken", other).await;
    assert!(set_fenced(&**store, name, 7, grant).await, "they may store");
    finds(&**store, name, 7).await;
}

/// What the holder does with the fence of the lease is done, and ends the lease.
async fn the_holder_changes_the_key<S: Store>(store: &S, way: &str) {
    let name = &format!("holder/{way}");
    set(store, name, 1, 40).await;
    let grant = granted(store, name, &fence(store, name).await, &terms("a", LONG)).await;
    let done = match way {
        "set" => set_fenced(store, name, 2, &grant).await,
        "delete" => delete_fenced(store, name, &grant).await,
        _ => match touch_fenced(store, name, &grant).await {
            Some(done) => done,
            None => return,
        },
    };
    assert!(done, "the holder's {way}");
    holds_nothing(store, name, &grant, &format!("after its own {way}")).await;
    let left = match way {
        "set" => Some(2),
        "delete" => None,
        _ => Some(1),
    };
    finds(store, name, left).await;
    granted(store, name, &fence(store, name).await, &terms("b", LONG)).await;
}

/// A lease binds nobody else, and whatever happens under the key ends it.
async fn others_change_the_key<S: Store>(store: &S, event: &str) {
    let name = &format!("others/{event}");
    set(store, name, 1, 40).await;
    let (plain, beside) = (fence(store, name).await, fence(store, name).await);
    let grant = granted(store, name, &plain, &terms("a", LONG)).await;
    let left = match event {
        "set" => {
            set(store, name, 2, 40).await;
            Some(2)
        }
        "fenced set" => {
            let done = set_fenced(store, name, 2, &plain).await;
            assert!(done, "a fence that is older than the lease holds on");
            Some(2)
        }
        "delete" => {
            delete(store, name).await;
            None
        }
        _ => {
            let Some(touch) = store.as_touch() else {
                return;
            };
            let touched = touch.touch(key(name), draft(1)).await;
            assert!(touched.expect("a touch succeeds").is_done());
            Some(1)
        }
    };
    for old in [&plain, &beside] {
        let asked = acquire(store, name, old, &terms("b", LONG)).await;
        assert!(
            matches!(asked, Leased::Superseded),
            "asked with a fence from before a {event}: {asked:?}"
        );
    }
    holds_nothing(store, name, &grant, &format!("after another's {event}")).await;
    finds(store, name, left).await;
    let later = granted(store, name, &fence(store, name).await, &terms("c", LONG)).await;
    // Not even a new lease of the key makes the old one's fence hold.
    holds_nothing(store, name, &grant, "while another holds the lease").await;
    taken(store, name, "c").await;
    assert!(set_fenced(store, name, 3, &later).await);
    finds(store, name, 3).await;
}

/// What is refused, given up or about another key leaves the lease to its holder.
async fn what_changes_nothing_ends_nothing<S: Store>(store: &S) {
    let stale = fence(store, "kept").await;
    set(store, "kept", 1, 40).await;
    let plain = fence(store, "kept").await;
    let grant = granted(store, "kept", &plain, &terms("a", LONG)).await;
    holds_nothing(store, "kept", &stale, "with a fence that is too old").await;
    let aborted = open(store, "kept", draft(2).fence(plain.clone())).await;
    aborted.abort().await.expect("an abort succeeds");
    drop(open(store, "kept", draft(2).fence(grant.clone())).await);
    let short = open(store, "kept", Draft::new().len(9).fence(plain.clone())).await;
    expect_err(short.commit().await, "a commit of too few bytes");
    // A fence that is none of a lease holds none.
    assert!(!renew(store, "kept", &plain, LONG).await);
    release(store, "kept", &plain).await;
    set(store, "kept/below", 1, 40).await;
    let other = fence(store, "other").await;
    let other = granted(store, "other", &other, &terms("b", LONG)).await;
    delete(store, "other").await;
    holds_nothing(store, "kept", &other, "with the lease of another key").await;
    taken(store, "kept", "a").await;
    finds(store, "kept", 1).await;
    assert!(set_fenced(store, "kept", 3, &grant).await, "it still holds");
}

/// A lease that is renewed lasts from then on for as long as was said then, be that more or less.
async fn renewed<S: Store>(store: &S) {
    let first = Duration::from_secs(2);
    let fences = [fence(store, "longer").await, fence(store, "shorter").await];
    let longer = granted(store, "longer", &fences[0], &terms("a", first)).await;
    assert!(renew(store, "longer", &longer, LONG).await, "it is held");
    let left = taken(store, "longer", "a").await.left;
    assert!(left > first, "{left:?} are left of {LONG:?}");

    let shorter = granted(store, "shorter", &fences[1], &terms("a", LONG)).await;
    assert!(renew(store, "shorter", &shorter, SHORT).await, "it is held");
    tokio::time::sleep(OVER).await;
    holds_nothing(store, "shorter", &shorter, "after it was shortened").await;

    tokio::time::sleep(first).await;
    taken(store, "longer", "a").await;
    assert!(set_fenced(store, "longer", 1, &longer).await, "it is held");
}

/// S68: a holder that was away for too long changes nothing, whether or not somebody else has the
/// lease by then.
async fn expired<S: Store>(store: &S) {
    set(store, "expired", 1, 40).await;
    let plain = fence(store, "expired").await;
    let late = granted(store, "expired", &plain, &terms("a", SHORT)).await;
    let fill = async || {
        let mut fill = open(store, "expired", draft(90).fence(late.clone())).await;
        write(&mut *fill, &pattern(90, 300)).await;
        fill
    };
    let (first, second) = (fill().await, fill().await);
    tokio::time::sleep(OVER).await;
    let commit = first.commit().await.expect("superseded is not an error");
    assert!(!commit.is_done(), "a fill whose lease expired meanwhile");
    holds_nothing(store, "expired", &late, "after it expired").await;
    finds(store, "expired", 1).await;

    // Nothing happened under the key, so that the fence from before it is as good as ever.
    let next = granted(store, "expired", &plain, &terms("b", LONG)).await;
    let commit = second.commit().await.expect("superseded is not an error");
    assert!(!commit.is_done(), "a fill whose lease another has now");
    holds_nothing(store, "expired", &late, "when another holds the lease").await;
    taken(store, "expired", "b").await;
    assert!(set_fenced(store, "expired", 2, &next).await, "it is held");
    finds(store, "expired", 2).await;
}

/// A lease that is given up is free at once, and its fence holds no more.
async fn released<S: Store>(store: &S) {
    let plain = fence(store, "released").await;
    let early = granted(store, "released", &plain, &terms("a", LONG)).await;
    release(store, "released", &early).await;
    holds_nothing(store, "released", &early, "after it was given up").await;
    let next = granted(store, "released", &plain, &terms("b", LONG)).await;
    holds_nothing(store, "released", &early, "after it was given up").await;
    taken(store, "released", "b").await;
    assert!(set_fenced(store, "released", 1, &next).await, "it is held");
    finds(store, "released", 1).await;
}

/// What [`Terms::check`] refuses is refused, and what it allows works.
async fn limits<S: Store>(store: &S) {
    let plain = fence(store, "limits").await;
    let long = "é".repeat(128);
    let above = format!("{long}.");
    let of = |who: &str, why: &str, ttl| {
        let (who, why) = (who.into(), why.into());
        Terms { who, why, ttl }
    };
    for refused in [
        of(&above, "fill", LONG),
        of("a", &above, LONG),
        of("a", "fill", Duration::ZERO),
        of("a", "fill", Duration::from_micros(999)),
        of("a", "fill", LEASE_TTL_MAX + Duration::from_millis(1)),
    ] {
        let error = expect_err(
            lease(store).acquire(key("limits"), &plain, &refused).await,
            "terms out of bounds",
        );
        assert!(error.is_invalid(), "{refused:?}: {error:?}");
    }
    let most = of(&long, &long, LEASE_TTL_MAX);
    let grant = granted(store, "limits", &plain, &most).await;
    let asked = acquire(store, "limits", &plain, &terms("b", LONG)).await;
    let Leased::Taken(holder) = asked else {
        panic!("it was granted just now, and not {asked:?}");
    };
    assert_eq!((&*holder.who, &*holder.why), (&*long, &*long));
    assert!(holder.left > LONG && holder.left <= LEASE_TTL_MAX);
    for ttl in [Duration::ZERO, LEASE_TTL_MAX + Duration::from_millis(1)] {
        let renewed = lease(store).renew(key("limits"), &grant, ttl).await;
        let error = expect_err(renewed, "a time to live out of bounds");
        assert!(error.is_invalid(), "{ttl:?}: {error:?}");
    }
    assert!(renew(store, "limits", &grant, LONG).await, "it is held");
    release(store, "limits", &grant).await;
    // The least that there can be, of nobody for nothing.
    let least = of("", "", Duration::from_millis(1));
    granted(store, "limits", &plain, &least).await;
}

/// A fence of another key, of another store or of nobody gets no lease.
async fn strangers<S: Store>(store: &S, subject: &impl Subject<Store = S>) {
    let other = subject.make(Setup::default()).await;
    let theirs = fence(&other, "strange").await;
    let fences = [
        ("another key", fence(store, "not strange").await),
        ("another store", theirs.clone()),
        (
            "another store's lease",
            granted(&other, "strange", &theirs, &terms("a", LONG)).await,
        ),
        ("nobody", Fence::new(7_u64)),
    ];
    for (whose, fence) in fences {
        let asked = acquire(store, "strange", &fence, &terms("b", LONG)).await;
        assert!(
            matches!(asked, Leased::Superseded),
            "asked with a fence of {whose}: {asked:?}"
        );
        holds_nothing(store, "strange", &fence, &format!("a fence of {whose}")).await;
    }
    finds(store, "strange", None).await;
}
