//! S57: whatever bytes stand in the files of a store, it opens or says clearly why not, and never
//! gives wrong ones. The fuzz target `disk_recover` runs the same cases.

mod case;

use case::{STATES, files, panics, run, run_edited};

/// Numbers without a pattern, always the same: Xorshift, after Marsaglia.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, len: u64) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[3]).collect()
    }
}

#[test]
fn s57_what_is_not_damaged_is_all_there() {
    for state in 0..STATES {
        let report = run_edited(state, Vec::clone);
        let report = report.expect("it opens");
        assert_eq!(report.found, report.written, "state {state}");
    }
    panics::none();
}

#[test]
fn s57_seeded_damage_is_a_miss_or_an_error() {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..200 {
        let len = 1 + numbers.next() % 80;
        let input = numbers.bytes(len);
        println!("{input:?}");
        run(&input);
    }
    panics::none();
}

#[test]
fn s57_each_file_cut_off_emptied_removed_or_foreign() {
    for state in 0..STATES {
        for index in 0..files(state) {
            for part in 0..4 {
                run_edited(state, |all| {
                    let mut all = all.clone();
                    let len = all[index].1.len();
                    all[index].1.truncate(len * part / 4);
                    all
                });
            }
            run_edited(state, |all| {
                let mut all = all.clone();
                all.remove(index);
                all
            });
            let mut numbers = Numbers(index as u64 + 1);
            run_edited(state, |all| {
                let mut all = all.clone();
                all[index].1 = numbers.bytes(all[index].1.len() as u64);
                all
            });
        }
    }
    panics::none();
}
