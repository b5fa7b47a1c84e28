//! What the server does in one step each, in Lua. Every script tells at its head what it is given
//! and what it answers.

use std::sync::LazyLock;

use crate::link::Script;

macro_rules! scripts {
    ($($name:ident = $file:literal;)*) => {$(
        pub(crate) static $name: LazyLock<Script> = LazyLock::new(|| {
            Script::new(concat!(include_str!("common.lua"), include_str!($file)))
        });
    )*};
}

scripts! {
    ABSENT = "absent.lua";
    ACQUIRE = "acquire.lua";
    COMMIT = "commit.lua";
    DELETE = "delete.lua";
    FENCE = "fence.lua";
    PROLONG = "prolong.lua";
    RELEASE = "release.lua";
    RENEW = "renew.lua";
    TOUCH = "touch.lua";
}

/// What a script that changes an object answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The fence does not hold.
    Superseded,
    Done,
    /// Bytes that should be there are gone.
    Lost,
    /// Another version is there.
    Changed,
    /// Its deadline had passed when it arrived.
    Late,
}

impl From<i64> for Outcome {
    fn from(code: i64) -> Self {
        match code {
            0 => Self::Superseded,
            2 => Self::Lost,
            3 => Self::Changed,
            4 => Self::Late,
            _ => Self::Done,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{config::CHUNKS_MAX, manifest::HEAD_LEN, nonce::Nonce};

    #[test]
    fn the_scripts_know_the_same_constants() {
        let common = include_str!("common.lua");
        for (name, value) in [
            ("HEAD_LEN", HEAD_LEN),
            ("NONCE_LEN", Nonce::LEN),
            ("CHUNKS_MAX", CHUNKS_MAX as usize),
        ] {
            let line = format!("local {name} = {value}\n");
            assert!(common.contains(&line), "{line}");
        }
    }
}
