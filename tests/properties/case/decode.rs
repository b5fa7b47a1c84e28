//! Scripts from bytes, for the fuzzer.
//!
//! Every input is a script: two bytes tell the tiers and the settings, each four that follow an
//! operation. The first of the four tells the task and the kind of the operation; the others are
//! one number, little-endian, of which each field takes a digit: its remainder by how many there
//! are to choose from. So a fuzzer that changes, drops or copies a few bytes changes an operation
//! or two and leaves the rest. A field that was added later takes a digit above the others: zero is
//! what an input without it meant.

use super::ops::{
    Accepts, Ask, Declared, End, FAULTS, KEYS, Len, Op, Order, Outcome, PARTS, Pace, Part,
    Patience, STORE_OPS, Script, Settings, Spill, TierKind,
};

/// Longer scripts find nothing that shorter ones do not, and take longer.
pub(crate) const OPS_MAX: usize = 64;

const TASKS_MAX: usize = 4;

impl Script {
    pub(crate) fn decode(input: &[u8]) -> Self {
        let (head, rest) = input.split_at_checked(2).unwrap_or((&[0, 0], &[]));
        let mut digits = Digits::of(head);
        let tiers = (0..2 + digits.below(2))
            .map(|_| digits.one_of(&[TierKind::Small, TierKind::Memory, TierKind::Model]))
            .collect();
        let mut settings = Settings {
            behind: digits.flag(),
            shared: digits.flag(),
            small_window: digits.flag(),
            spill: digits.one_of(&[Spill::Allowed, Spill::Forbidden]),
            abandon: digits.flag(),
            no_negatives: digits.flag(),
            second_hit: digits.flag(),
            several: digits.flag(),
        };
        if digits.flag() && settings.spill == Spill::Forbidden {
            settings.spill = Spill::Unwritable;
        }
        let mut tasks = vec![Vec::new(); TASKS_MAX];
        for op in rest.chunks_exact(4).take(OPS_MAX) {
            let task = usize::from(op[0] >> 6);
            tasks[task].push(Op::decode(op[0] & 63, Digits::of(&op[1..])));
        }
        Self {
            tiers,
            settings,
            tasks,
        }
    }
}

impl Op {
    /// The commoner ones have more than one number.
    fn decode(kind: u8, mut from: Digits) -> Self {
        let from = &mut from;
        match kind % 20 {
            0..=2 => {
                let (key, ask) = (from.key(), from.ask());
                let ask = from.further(ask);
                Self::Get { key, ask }
            }
            3..=6 => {
                let mut order = from.order();
                let ask = from.ask();
                (order.no_store, order.pace) = (from.flag(), from.one_of(&Pace::ALL));
                let ask = from.further(ask);
                Self::Fetch { order, ask }
            }
            7 => {
                let mut order = from.order();
                (order.no_store, order.pace) = (from.flag(), from.one_of(&Pace::ALL));
                Self::Refresh { order }
            }
            8 => Self::Stat { key: from.key() },
            9 | 10 => Self::Insert {
                key: from.key(),
                len: from.one_of(&Len::ALL),
                patience: from.patience(),
            },
            11 => Self::Write {
                key: from.key(),
                len: from.one_of(&Len::ALL),
                end: from.one_of(&[End::Commit, End::Abort, End::Drop]),
                declared: from.one_of(&[
                    Declared::Nothing,
                    Declared::Right,
                    Declared::TooLong,
                    Declared::TooShort,
                ]),
            },
            12 | 13 => Self::Delete {
                key: from.key(),
                patience: from.patience(),
            },
            14 => Self::Clear,
            15 => Self::Evict {
                tier: from.byte(),
                key: from.key(),
            },
            16 => Self::Fill { tier: from.byte() },
            17 => Self::Fail {
                op: from.one_of(&STORE_OPS),
                fault: from.one_of(&FAULTS),
                nth: from.below_byte(3) + 1,
                tier: from.byte(),
            },
            18 => {
                let (seconds, passes) = (from.byte(), from.flag());
                if passes {
                    Self::Pass { seconds }
                } else {
                    Self::Advance { seconds }
                }
            }
            _ => Self::Rest {
                turns: from.below_byte(16),
            },
        }
    }
}

/// A number that is taken apart digit by digit, each of its own base.
struct Digits(usize);

impl Digits {
    fn of(bytes: &[u8]) -> Self {
        let digits = bytes.iter().rev();
        Self(digits.fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn below(&mut self, base: usize) -> usize {
        let digit = self.0 % base;
        self.0 /= base;
        digit
    }

    fn below_byte(&mut self, base: u8) -> u8 {
        u8::try_from(self.below(base.into())).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn key(&mut self) -> u8 {
        self.below_byte(KEYS)
    }

    /// What an origin is to do, at once and to be stored.
    fn order(&mut self) -> Order {
        Order {
            key: self.key(),
            len: self.one_of(&Len::ALL),
            outcome: self.one_of(&Outcome::ALL),
            no_store: false,
            pace: Pace::AtOnce,
        }
    }

    fn ask(&mut self) -> Ask {
        Ask {
            part: self.part(),
            patience: self.patience(),
            accepts: Accepts::Usual,
        }
    }

    /// The fields of a read that were added later.
    fn further(&mut self, ask: Ask) -> Ask {
        let (long, beyond) = (self.flag(), self.flag());
        let accepts = match self.below(3) {
            0 => Accepts::Usual,
            1 => Accepts::Stale,
            _ => Accepts::Young(self.below_byte(100)),
        };
        Ask {
            part: if beyond {
                ask.part.beyond_the_window()
            } else {
                ask.part
            },
            patience: if long {
                ask.patience.long()
            } else {
                ask.patience
            },
            accepts,
        }
    }

    fn part(&mut self) -> Part {
        if self.flag() {
            self.one_of(&PARTS)
        } else {
            Part::Whole
        }
    }

    fn patience(&mut self) -> Patience {
        match self.below(4) {
            0 | 1 => Patience::Stays,
            2 => Patience::Leaves(self.below_byte(12)),
            _ => Patience::Lags(self.below_byte(12)),
        }
    }
}
