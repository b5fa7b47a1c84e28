//! S03, S04, S11: tiers that hang, or fail, where a read or a write meets them.

use std::time::Duration;

use larder::ErrorKind;
use larder::{ByteRange, Cache, Draft, EntityTag, Source, Store, Tier};
use larder_conformance::{Fault, Faulty, Model, Op};
use tokio::time::{Instant, timeout};

use super::{AT_ONCE, drain, each_verb_finishes, long};
use crate::support::{
    Origin, SECOND, assert_clean, at_rest, faulty, impatient, put, silent_after, text,
};

const TIMEOUT: Duration = Duration::from_secs(2);

/// Two tiers; the lower one is given to play with.
fn over(lower: &Faulty<Model>) -> (Cache, Faulty<Model>) {
    let upper = faulty();
    let lower = Tier::new(lower.clone()).name("lower").timeout(TIMEOUT);
    let cache = impatient().tier(upper.clone()).tier(lower).build();
    (cache.unwrap(), upper)
}

#[tokio::test(start_paused = true)]
async fn s03_a_write_that_blocks_leaves_the_key_free() {
    each_verb_finishes(async || {
        let lower = faulty();
        lower.faults().on(Op::Write).inject(Fault::Stall);
        let (cache, _) = over(&lower);
        let fetch = Origin::default().does(async |_| Ok(silent_after("one")));
        let body = cache.get_or_fetch("a", fetch).await.unwrap().into_body();
        lower.faults().until_stalled(1).await;
        (cache, body)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s03_a_reader_is_fed_while_a_write_blocks_and_the_tier_is_left_behind() {
    let lower = faulty();
    lower.faults().on(Op::Write).always(Fault::Stall);
    let (cache, upper) = over(&lower);
    let began = Instant::now();
    let fetch = Origin::default().does(async |_| Ok(long(10)));
    let mut body = cache
        .get_or_fetch("a", fetch)
        .await
        .unwrap()
        .into_body()
        .unwrap();
    let first = body.chunk().await.unwrap().unwrap();
    assert_eq!(
        began.elapsed(),
        Duration::ZERO,
        "the first bytes wait for no tier"
    );
    let rest = drain(body).await.unwrap();
    assert_eq!(first.len() + rest.len(), 640 << 10);
    assert_eq!(
        began.elapsed(),
        SECOND,
        "the tier had its `write_stall`, once"
    );
    at_rest(&cache).await;
    assert_eq!(cache.tiers()[1].counters.stalls, 1);
    assert_eq!((upper.usage().entries, lower.usage().entries), (1, 0));
    assert_clean(&lower);
}

#[tokio::test(start_paused = true)]
async fn s03_a_write_that_blocks_does_not_stop_the_users_writer() {
    let lower = faulty();
    put(&lower, "old").await;
    lower.faults().on(Op::Write).always(Fault::Stall);
    let (cache, upper) = over(&lower);
    let mut writer = cache.set_with_writer("a", Draft::new()).await.unwrap();
    let written = timeout(2 * SECOND, writer.write("new")).await;
    written.expect("within `write_stall`").unwrap();
    assert_eq!(writer.commit().await.unwrap().tiers, 1);
    assert_eq!((upper.usage().entries, lower.usage().entries), (1, 0));
    assert_clean(&lower);
}

#[tokio::test(start_paused = true)]
async fn s03_a_commit_that_blocks_delays_no_reader_and_is_given_up_in_time() {
    let lower = faulty();
    lower.faults().on(Op::Commit).inject(Fault::Stall);
    let (cache, _) = over(&lower);
    let began = Instant::now();
    let first = cache.get_or_fetch("a", Origin::default().does(async |_| Ok(long(2))));
    let body = first.await.unwrap().into_body().unwrap();
    assert_eq!(drain(body).await.unwrap().len(), 128 << 10);
    lower.faults().until_stalled(1).await;
    let joined = cache.get("a").await.unwrap().into_body().unwrap();
    assert_eq!(drain(joined).await.unwrap().len(), 128 << 10);
    assert_eq!(began.elapsed(), Duration::ZERO);
    cache.delete("a").await.unwrap();
    assert_eq!(
        began.elapsed(),
        TIMEOUT,
        "the delete's turn comes when the commit's time is up"
    );
    assert!(cache.get("a").await.unwrap().is_absent());
    at_rest(&cache).await;
    assert_clean(&lower);
}

#[tokio::test(start_paused = true)]
async fn s04_a_store_that_fails_to_open_a_writer_costs_nobody_anything() {
    let lower = faulty();
    let (cache, upper) = over(&lower);
    for fault in [Fault::Fail(ErrorKind::Unavailable), Fault::Panic] {
        lower.faults().on(Op::Set).inject(fault);
        let origin = Origin::default();
        let response = cache.get_or_fetch("a", origin.does(async |_| Ok(long(2))));
        let body = response.await.unwrap().into_body().unwrap();
        assert_eq!(drain(body).await.unwrap().len(), 128 << 10);
        at_rest(&cache).await;
        assert_eq!((upper.usage().entries, lower.usage().entries), (1, 0));
        assert_clean(&lower);
        cache.delete("a").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn s04_a_writer_that_opens_too_late_is_aborted() {
    let lower = faulty();
    lower.faults().on(Op::Set).inject(Fault::StallAfter);
    let (cache, upper) = over(&lower);
    let response = cache.get_or_fetch("a", Origin::default().does(async |_| Ok(long(2))));
    let body = response.await.unwrap().into_body().unwrap();
    lower.faults().until_stalled(1).await;
    assert_eq!(lower.inner().fences(), 1, "the late writer holds its fence");
    let all = timeout(TIMEOUT + SECOND, drain(body)).await;
    assert_eq!(
        all.expect("within the tier's time-out").unwrap().len(),
        128 << 10
    );
    at_rest(&cache).await;
    lower.faults().release();
    assert_clean(&lower);
    assert_eq!((upper.usage().entries, lower.usage().entries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn s04_a_write_that_is_cancelled_while_it_opens_leaves_nothing() {
    let lower = faulty();
    let (cache, _) = over(&lower);
    for fault in [Fault::Stall, Fault::StallAfter] {
        lower.faults().on(Op::Set).inject(fault);
        let open = cache.set_with_writer("a", Draft::new());
        assert!(timeout(SECOND, open).await.is_err(), "it was to stall");
        at_rest(&cache).await;
        assert_clean(&lower);
        let written = cache.insert("a", "new", Draft::new()).await.unwrap();
        assert_eq!(written.tiers, 2);
    }
}

/// A cache whose tier of this number hangs on every look-up, and the object below that tier.
async fn hung(tier: usize) -> (Cache, Faulty<Model>) {
    let stores = [faulty(), faulty(), faulty()];
    put(&stores[2], "cold").await;
    stores[tier].faults().on(Op::Get).always(Fault::Stall);
    let tiers = stores
        .iter()
        .map(|store| Tier::new(store.clone()).timeout(TIMEOUT));
    let cache = tiers.fold(impatient(), larder::Builder::tier).build();
    (cache.unwrap(), stores[tier].clone())
}

#[tokio::test(start_paused = true)]
async fn s11_a_tier_that_hangs_on_look_up_costs_its_time_out_once() {
    for tier in [0, 1] {
        let (cache, store) = hung(tier).await;
        let began = Instant::now();
        let response = cache.get("a").await.unwrap();
        assert!(matches!(
            response.status().source(),
            Source::Tier { index: 2, .. }
        ));
        assert_eq!(text(response).await, "cold");
        assert_eq!(began.elapsed(), TIMEOUT, "tier {tier}");
        at_rest(&cache).await;
        assert_eq!(cache.tiers()[tier].counters.timeouts, 1);
        assert_clean(&store);
    }
}

#[tokio::test(start_paused = true)]
async fn s11_the_bottom_tier_may_hang_too() {
    let (cache, _) = hung(2).await;
    let began = Instant::now();
    assert!(cache.get("a").await.unwrap().is_absent());
    assert_eq!(began.elapsed(), TIMEOUT);
    let origin = Origin::default();
    let fetched = cache
        .get_or_fetch("a", origin.gives("fetched"))
        .await
        .unwrap();
    assert_eq!(text(fetched).await, "fetched");
    assert_eq!((began.elapsed(), origin.fetches()), (2 * TIMEOUT, 1));
}

#[tokio::test(start_paused = true)]
async fn s11_a_tier_that_did_not_answer_is_not_filled() {
    for tier in [0, 1] {
        let (cache, store) = hung(tier).await;
        let fetch = Origin::default().gives("fetched");
        assert_eq!(
            text(cache.refresh("a", fetch).await.unwrap()).await,
            "fetched"
        );
        at_rest(&cache).await;
        assert_eq!(store.usage().entries, 0, "tier {tier} gave no fence");
        store.faults().clear();
        assert_eq!(text(cache.get("a").await.unwrap()).await, "fetched");
    }
}

#[tokio::test(start_paused = true)]
async fn s11_the_time_out_of_the_first_tier_holds_for_every_verb() {
    let (cache, store) = hung(0).await;
    store.faults().on(Op::Stat).always(Fault::Stall);
    let bound = TIMEOUT + AT_ONCE;
    let tag = EntityTag::strong("v1").unwrap();
    let conditional = timeout(bound, cache.get("a").if_none_match(tag)).await;
    assert_eq!(text(conditional.unwrap().unwrap()).await, "cold");
    let range = ByteRange::try_from(1..3).unwrap();
    let part = timeout(bound, cache.get("a").range(range)).await;
    assert_eq!(text(part.unwrap().unwrap()).await, "ol");
    let fetch = Origin::default().gives("not wanted");
    let fetching = timeout(bound, cache.get_or_fetch("a", fetch)).await;
    assert_eq!(text(fetching.unwrap().unwrap()).await, "cold");
    let stat = timeout(bound, cache.stat("a")).await.unwrap().unwrap();
    assert_eq!(stat.expect("the lower tier has it").len(), 4);
}

#[tokio::test(start_paused = true)]
async fn s11_a_delete_and_a_set_are_bounded_and_the_hung_tier_is_not_believed() {
    let (cache, store) = hung(0).await;
    store.faults().clear();
    put(&store, "old").await;
    store.faults().on(Op::Delete).inject(Fault::Stall);
    let deleted = timeout(TIMEOUT + AT_ONCE, cache.delete("a")).await.unwrap();
    let error = deleted.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!(
        error.to_string(),
        "deleting took longer than 2s in the tier model"
    );
    assert!(
        cache.get("a").await.unwrap().is_absent(),
        "what was deleted is not read"
    );
    store.faults().on(Op::Set).inject(Fault::Stall);
    let set = timeout(TIMEOUT + AT_ONCE, cache.insert("a", "new", Draft::new())).await;
    assert_eq!(set.unwrap().unwrap().tiers, 2);
    assert_eq!(text(cache.get("a").await.unwrap()).await, "new");
}
