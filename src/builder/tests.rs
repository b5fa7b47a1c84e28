//! The docs of the builder against its code.

use super::*;

/// The documentation of each setting tells its default.
#[test]
fn the_docs_tell_the_defaults() {
    let source = include_str!("../builder.rs");
    let docs_of = |setter: &str| {
        let at = source.find(&format!("pub fn {setter}(")).expect("a setter");
        let from = source[..at].rfind("\n\n").expect("its docs");
        source[from..at].replace("\n    ///", "")
    };
    let Settings {
        spool,
        spool_memory_total,
        flights_max,
        fetches_max,
        fetch_timeout,
        idle_timeout,
        close_timeout,
        refreshes_max,
        refresh_queue_max,
        behind_queue_max,
        behind_bytes_max,
        suspects_max,
        behind_max,
        failures_max,
        lease_ttl,
        lease_wait,
        bus_bound,
        ..
    } = Settings::default();
    let thousands = |number: usize| match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", number / 1_000, number % 1_000),
    };
    let seconds = |time: Duration| format!("{} s", time.as_secs());
    for (setter, told) in [
        ("spool_memory", format!("{} MiB", spool.memory >> 20)),
        (
            "spool_memory_total",
            format!("{} MiB", spool_memory_total >> 20),
        ),
        ("spool_disk_max", format!("{} GiB", spool.disk >> 30)),
        ("flights_max", thousands(flights_max)),
        ("fetches_max", thousands(fetches_max)),
        ("fetch_timeout", seconds(fetch_timeout)),
        ("idle_timeout", seconds(idle_timeout)),
        ("close_timeout", seconds(close_timeout)),
        (
            "refreshes",
            format!("{refreshes_max} and {}", thousands(refresh_queue_max)),
        ),
        (
            "behind_queue",
            format!(
                "{} and {} MiB",
                thousands(behind_queue_max),
                behind_bytes_max >> 20
            ),
        ),
        ("suspects_max", thousands(suspects_max)),
        ("behind_max", thousands(behind_max)),
        ("failures_max", thousands(failures_max)),
        ("lease_ttl", seconds(lease_ttl)),
        ("lease_wait", seconds(lease_wait)),
        ("bus_bound", seconds(bus_bound)),
    ] {
        let docs = docs_of(setter);
        assert!(
            docs.contains(&format!("Default {told}.")),
            "{setter}: {docs}"
        );
    }
}
