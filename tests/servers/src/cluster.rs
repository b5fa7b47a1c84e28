//! Three masters that share the slots.

use std::net::SocketAddr;

use redis::Value;

use crate::{ATTEMPTS, Builder, PATIENCE, Server, SlotMove, nap};

/// How many slots there are in a Redis Cluster.
const SLOTS: u16 = 16_384;

const NODES: u16 = 3;

/// Three masters, each with a third of the slots and no replica. They end with this value.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Server>,
}

impl Cluster {
    /// Starts three nodes and waits until each finds the cluster whole: some seconds.
    pub fn start() -> Self {
        Self::start_with(&Server::builder())
    }

    /// The same with settings of the test's own, for each node.
    pub fn start_with(settings: &Builder) -> Self {
        let node = |_| {
            let settings = settings.clone().cluster_node();
            // What the nodes of a test wait for each other. Tests of their death need no longer.
            settings.config("cluster-node-timeout", "2000").start()
        };
        let cluster = Self {
            nodes: (0..NODES).map(node).collect(),
        };
        for (index, node) in (0..NODES).zip(&cluster.nodes) {
            let [first, last] = [index, index + 1]
                .map(|index| u32::from(SLOTS) * u32::from(index) / u32::from(NODES));
            let [first, last] = [first, last - 1].map(|slot| slot.to_string());
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first, &last]);
            // Nodes that begin with the same epoch would first have to agree on new ones.
            let epoch = (index + 1).to_string();
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]);
        }
        let (first, others) = cluster.nodes.split_first().expect("there are three");
        for other in others {
            meet(first, other);
        }
        cluster.wait_until_whole();
        cluster
    }

    /// The nodes.
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Where the nodes listen, as clients want to be told.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// The slot of a key, or of its `{tag}`.
    pub fn slot(&self, key: &str) -> u16 {
        self.living().ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// The index of the node that has this slot, in the view of the first that lives.
    pub fn owner(&self, slot: u16) -> usize {
        // A range is its first and last slot, and its node: address, port, id and more.
        type Range = (u16, u16, Vec<Value>);
        let ranges: Vec<Range> = self.living().ask(&["CLUSTER", "SLOTS"]);
        let (_, _, node) = ranges
            .into_iter()
            .find(|(first, last, _)| (*first..=*last).contains(&slot))
            .expect("every slot has a node");
        let port: u16 = redis::from_redis_value_ref(&node[1]).expect("a port");
        self.nodes
            .iter()
            .position(|node| node.address().port() == port)
            .expect("there are no other nodes")
    }

    /// Begins to move a slot from its node to another; see [`SlotMove`] for the steps.
    pub fn begin_move(&self, slot: u16, to: usize) -> SlotMove<'_> {
        SlotMove::begin(&self.nodes, slot, self.owner(slot), to)
    }

    /// Moves a slot, with its keys, from its node to another.
    pub fn move_slot(&self, slot: u16, to: usize) {
        let moving = self.begin_move(slot, to);
        while moving.keys(100) > 0 {}
        moving.finish();
    }

    /// Kills one node. The others find that out after two seconds or more.
    pub fn kill(&self, index: usize) {
        self.nodes[index].kill();
    }

    /// Starts a killed node again; it takes its place and its slots, empty.
    pub fn restart(&self, index: usize) {
        self.nodes[index].restart();
    }

    /// Waits until each node finds the cluster whole.
    pub fn wait_until_whole(&self) {
        let whole = |node: &Server| {
            let info: String = node.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok")
                && info.contains(&format!("cluster_slots_ok:{SLOTS}"))
                && info.contains(&format!("cluster_known_nodes:{NODES}"))
        };
        for _ in 0..ATTEMPTS {
            if self.nodes.iter().all(whole) {
                return;
            }
            nap();
        }
        let info: Vec<String> = self
            .nodes
            .iter()
            .map(|n| n.ask(&["CLUSTER", "INFO"]))
            .collect();
        panic!("the cluster is not whole after {PATIENCE:?}: {info:#?}");
    }

    fn living(&self) -> &Server {
        let lives = |node: &&Server| node.lives();
        self.nodes.iter().find(lives).expect("a node lives")
    }
}

fn meet(one: &Server, other: &Server) {
    let address = other.address();
    let bus = other.cluster_port().expect("it is a node of a cluster");
    one.ask::<()>(&[
        "CLUSTER",
        "MEET",
        &address.ip().to_string(),
        &address.port().to_string(),
        &bus.to_string(),
    ]);
}
