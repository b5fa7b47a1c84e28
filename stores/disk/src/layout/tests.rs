use std::{fs, path::PathBuf};

use super::*;
use crate::{
    config::Builder,
    faults::{Failure, Faults, Rule},
    medium::Op,
};

fn settings(after: AfterPowerLoss) -> Settings {
    let builder = Builder::new(PathBuf::new(), 64 << 20);
    builder.after_power_loss(after).settings().unwrap()
}

fn open(medium: &Medium) -> Result<Folder> {
    Folder::open(medium, &settings(AfterPowerLoss::Keep))
}

fn refused(medium: &Medium) -> Error {
    let Err(error) = open(medium) else {
        panic!("it was opened")
    };
    error
}

fn parent() -> (tempfile::TempDir, Medium) {
    let parent = tempfile::tempdir().unwrap();
    let medium = Medium::new(&parent.path().join("parent/store"));
    (parent, medium)
}

#[test]
fn s60_a_folder_that_is_missing_is_made() {
    let (_parent, medium) = parent();
    let folder = open(&medium).unwrap();
    assert!(!folder.after_power_loss);
    let id = folder.store_id;
    assert_ne!(id, [0; 16]);
    folder.close(&medium).unwrap();
    drop(folder);
    assert_eq!(open(&medium).unwrap().store_id, id);
}

#[test]
fn s60_a_file_is_no_folder() {
    let (parent, medium) = parent();
    fs::write(parent.path().join("parent"), "a file").unwrap();
    assert!(refused(&medium).is_invalid());
    let medium = Medium::new(&parent.path().join("parent"));
    let error = refused(&medium);
    assert!(error.is_invalid() && error.to_string().contains("not a folder"));
    assert_eq!(fs::read(medium.path()).unwrap(), b"a file");
}

#[test]
fn s60_a_folder_of_something_else_is_left_as_it_is() {
    let (_parent, medium) = parent();
    fs::create_dir_all(medium.path()).unwrap();
    fs::write(medium.path().join("diary"), "dear").unwrap();
    let error = refused(&medium);
    assert!(error.is_invalid(), "{error:?}");
    let message = error.to_string();
    assert!(
        message.contains("something else") && message.contains("diary"),
        "{message}"
    );
    assert_eq!(medium.list("".as_ref()).unwrap(), ["diary"]);
}

#[test]
fn s60_a_folder_that_was_about_to_be_made_is_made() {
    let (_parent, medium) = parent();
    fs::create_dir_all(medium.path()).unwrap();
    for name in [LOCK, "FORMAT.tmp"] {
        fs::write(medium.path().join(name), "").unwrap();
    }
    open(&medium).unwrap();
}

#[test]
fn s60_an_unknown_format_is_named_and_left_untouched() {
    let (_parent, medium) = parent();
    fs::create_dir_all(medium.path()).unwrap();
    for (text, named) in [
        ("larder-disk 3\nnews\n", "version 3"),
        ("nonsense", "damaged"),
        ("", "damaged"),
    ] {
        fs::write(medium.path().join(FORMAT), text).unwrap();
        let error = refused(&medium);
        assert!(error.is_invalid(), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains(named) && message.contains("untouched"),
            "{message}"
        );
        assert_eq!(medium.list("".as_ref()).unwrap(), [FORMAT]);
        assert_eq!(
            fs::read_to_string(medium.path().join(FORMAT)).unwrap(),
            text
        );
    }
}

#[test]
fn s60_a_folder_in_use_is_refused_until_it_is_released() {
    let (_parent, medium) = parent();
    let first = open(&medium).unwrap();
    let error = refused(&medium);
    assert!(error.is_unavailable(), "{error:?}");
    assert!(
        error.to_string().contains("in use by another process"),
        "{error}"
    );
    first.release();
    let second = open(&medium).unwrap();
    drop(second);
    open(&medium).unwrap();
}

#[test]
fn s60_a_handle_that_was_just_dropped_is_waited_for() {
    let (_parent, medium) = parent();
    let first = open(&medium).unwrap();
    let ending = std::thread::spawn(move || {
        std::thread::park_timeout(LOCK_PAUSE * 5);
        drop(first);
    });
    open(&medium).unwrap();
    ending.join().unwrap();
}

#[test]
fn s60_a_folder_that_cannot_be_used_says_why() {
    use larder_store::BoxError;

    let ops = [
        Op::MakeDir,
        Op::List,
        Op::Create,
        Op::Open,
        Op::Write,
        Op::Sync,
        Op::Rename,
        Op::Remove,
        Op::Lock,
    ];
    for failure in [Failure::ReadOnly, Failure::Broken, Failure::Full] {
        for op in ops {
            let parent = tempfile::tempdir().unwrap();
            let faults = Faults::default();
            let path = parent.path().join("store");
            let medium = Medium::with_faults(&path, faults.clone());
            faults.add(Rule::new(failure).on(&[op]));
            let error = refused(&medium);
            assert!(error.is_unavailable(), "{op:?}: {error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()));
            assert!(error.find_source::<io::Error>().is_some(), "{op:?}");
            let _: BoxError = error.into();
            faults.clear();
            open(&medium).unwrap();
        }
    }
}

#[test]
fn s55_a_kill_is_told_from_a_loss_of_power() {
    let (_parent, medium) = parent();
    let id = {
        let folder = open(&medium).unwrap();
        let left = Left {
            boot: folder.boot.clone(),
            known: Known::default(),
        };
        let manifest = manifest::Manifest::new(&folder.store_id, left);
        manifest.save(&medium).unwrap();
        folder.store_id
    };
    let killed = Folder::open(&medium, &settings(AfterPowerLoss::StartCold)).unwrap();
    let same_boot = boot_id().is_some();
    assert_eq!(killed.after_power_loss, !same_boot);
    assert_eq!(killed.store_id == id, same_boot);
    let id = killed.store_id;
    drop(killed);

    let marker = medium.path().join(manifest::NAME);
    fs::write(&marker, "another boot").unwrap();
    let kept = open(&medium).unwrap();
    assert!(kept.after_power_loss);
    assert_eq!(kept.store_id, id);
    drop(kept);

    fs::write(&marker, [0xff; 9000]).unwrap();
    let cold = Folder::open(&medium, &settings(AfterPowerLoss::StartCold)).unwrap();
    assert!(cold.after_power_loss);
    assert_ne!(cold.store_id, id);
    cold.close(&medium).unwrap();
    let id = cold.store_id;
    drop(cold);

    let closed = Folder::open(&medium, &settings(AfterPowerLoss::StartCold)).unwrap();
    assert!(!closed.after_power_loss);
    assert_eq!(closed.store_id, id);
}

#[test]
fn s103_a_child_that_was_forked_does_not_keep_the_lock() {
    let (_parent, medium) = parent();
    let first = open(&medium).unwrap();
    let held = first.held();
    let Locks { lock, itself } = &held.as_ref().unwrap().locks;
    let forked: Vec<_> = [Some(lock), itself.as_ref()]
        .into_iter()
        .flatten()
        .map(File::forked)
        .collect();
    assert_eq!(forked.len(), 2);
    drop(held);
    assert!(refused(&medium).is_unavailable());
    first.release();
    drop(open(&medium).unwrap());
    // Nor by a drop.
    let second = open(&medium).unwrap();
    let held = second.held();
    let forked_again = held.as_ref().unwrap().locks.lock.forked();
    drop(held);
    drop(second);
    open(&medium).unwrap();
    drop((forked, forked_again));
}

#[test]
fn s98_a_folder_without_a_lock_lets_nobody_in() {
    let (_parent, medium) = parent();
    let first = open(&medium).unwrap();
    assert!(first.is_in_place(&medium));
    fs::remove_file(medium.path().join(LOCK)).unwrap();
    assert!(!first.is_in_place(&medium));
    let again = Medium::new(medium.path());
    assert!(refused(&again).is_unavailable());
    drop(first);
    open(&again).unwrap();
}
