//! Which node has which slot.

use std::{ops::RangeInclusive, sync::Arc};

use redis::{ConnectionAddr, ConnectionInfo, Value};

use super::super::node::Node;

pub(super) const SLOTS: usize = 16384;

/// Slots and their master.
pub(super) type Range = (RangeInclusive<u16>, ConnectionInfo);

/// Who has what; without nodes until the first answer.
#[derive(Default)]
pub(super) struct Map {
    /// An index into the nodes for each slot; out of bounds for none.
    owners: Vec<u16>,
    /// The masters, and behind them nodes that were only heard of.
    nodes: Vec<Arc<Node>>,
    masters: usize,
}

impl Map {
    pub(super) fn new(
        ranges: Vec<Range>,
        mut node: impl FnMut(ConnectionInfo) -> Arc<Node>,
    ) -> Self {
        let mut owners = vec![u16::MAX; SLOTS];
        let mut nodes: Vec<Arc<Node>> = Vec::new();
        for (slots, info) in ranges {
            let place = info.addr().to_string();
            let index = nodes.iter().position(|node| **node.place() == *place);
            let index = index.unwrap_or_else(|| {
                nodes.push(node(info));
                nodes.len() - 1
            });
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            for slot in slots {
                if let Some(owner) = owners.get_mut(usize::from(slot)) {
                    *owner = index;
                }
            }
        }
        let masters = nodes.len();
        Self {
            owners,
            nodes,
            masters,
        }
    }

    /// The same with one more node, which has no slot as far as is known.
    pub(super) fn with(&self, node: Arc<Node>) -> Self {
        let mut nodes = self.nodes.clone();
        nodes.push(node);
        Self {
            owners: self.owners.clone(),
            nodes,
            masters: self.masters,
        }
    }

    pub(super) fn owner(&self, slot: u16) -> Option<Arc<Node>> {
        let index = self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(*index)).cloned()
    }

    pub(super) fn at(&self, place: &str) -> Option<Arc<Node>> {
        self.nodes
            .iter()
            .find(|node| **node.place() == *place)
            .cloned()
    }

    pub(super) fn masters(&self) -> &[Arc<Node>] {
        &self.nodes[..self.masters]
    }

    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }
}

/// The slot of names with this hash tag: CRC-16/XMODEM of the tag, as the cluster specification
/// has it.
pub(super) fn slot(hash: u64) -> u16 {
    let tag = format!("{hash:016x}");
    let crc = tag.bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            let carry = if crc & 0x8000 == 0 { 0 } else { 0x1021 };
            (crc << 1) ^ carry
        })
    });
    crc % 16384
}

/// What `CLUSTER SLOTS` answered; `None` when it makes no sense or is empty.
pub(super) fn parse(answer: Value, asked: &ConnectionInfo) -> Option<Vec<Range>> {
    let entries: Vec<Vec<Value>> = redis::from_redis_value(answer).ok()?;
    let ranges: Option<Vec<Range>> = entries
        .into_iter()
        .map(|entry| {
            let mut entry = entry.into_iter();
            let first: u16 = redis::from_redis_value(entry.next()?).ok()?;
            let last: u16 = redis::from_redis_value(entry.next()?).ok()?;
            let master: Vec<Value> = redis::from_redis_value(entry.next()?).ok()?;
            let mut master = master.into_iter();
            let host: Option<String> = redis::from_redis_value(master.next()?).ok()?;
            let port: u16 = redis::from_redis_value(master.next()?).ok()?;
            let host = host.unwrap_or_default();
            Some((first..=last, at(asked, &host, port)))
        })
        .collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

/// Another node, reached as this one is: with its user, and by TLS if it is. A node that does not
/// know its own name, "" or "?", has the host that was asked.
pub(super) fn at(asked: &ConnectionInfo, host: &str, port: u16) -> ConnectionInfo {
    let named = |known: &str| match host {
        "" | "?" => known.to_owned(),
        host => host.to_owned(),
    };
    let addr = match asked.addr() {
        ConnectionAddr::TcpTls {
            host,
            insecure,
            tls_params,
            ..
        } => ConnectionAddr::TcpTls {
            host: named(host),
            port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        ConnectionAddr::Tcp(host, _) => ConnectionAddr::Tcp(named(host), port),
        _ => ConnectionAddr::Tcp(named("localhost"), port),
    };
    asked.clone().set_addr(addr)
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo as _;

    use super::*;

    #[test]
    fn slots_are_those_of_the_server() {
        // Of `CLUSTER KEYSLOT` of a Redis 7.0.15.
        assert_eq!(slot(0), 4083);
        assert_eq!(slot(0x0123_4567_89ab_cdef), 10405);
    }

    #[test]
    fn ranges_are_read() {
        let asked = "redis://user:secret@10.0.0.9:7000"
            .into_connection_info()
            .unwrap();
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port)]);
        let answer = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(8000),
                node(Value::BulkString(b"10.0.0.1".to_vec()), 7001),
                node(Value::BulkString(b"10.0.0.3".to_vec()), 7003),
            ]),
            Value::Array(vec![
                Value::Int(8001),
                Value::Int(16383),
                node(Value::Nil, 7002),
            ]),
        ]);
        let ranges = parse(answer, &asked).unwrap();
        let places: Vec<_> = ranges
            .iter()
            .map(|(slots, info)| (slots.clone(), info.addr().to_string()))
            .collect();
        assert_eq!(
            places,
            [
                (0..=8000, "10.0.0.1:7001".to_owned()),
                (8001..=16383, "10.0.0.9:7002".to_owned())
            ]
        );
        assert_eq!(ranges[0].1.redis_settings().password(), Some("secret"));
        assert!(parse(Value::Array(vec![]), &asked).is_none());
        assert!(parse(Value::Okay, &asked).is_none());
    }
}
