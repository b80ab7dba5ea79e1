//! The node's settings: defaults, then a file, then the environment, then flags; one `check` over the result.
//! What a setting does is decided where it is used; nothing here opens or binds anything.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use config::Source as _;
use serde::{Deserialize, Serialize};

use crate::data::admission;

/// Where a node listens unless told otherwise: this machine only.
pub const LISTEN: &str = "127.0.0.1:7400";

/// Shards of a new cluster unless told otherwise (8 keep two cores busy; 256 idle groups cost more than they give).
pub const SHARDS: u32 = 8;
/// More groups than this cost more in heartbeats than they give.
pub const SHARDS_MAX: u32 = 256;

/// The environment's prefix: `RECKONER_NODE_LISTEN=127.0.0.1:7500`.
pub const ENVIRONMENT_PREFIX: &str = "RECKONER_NODE";

/// A founding member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// 1 or more; never used again after its disk was lost.
    pub id: u64,
    /// Where other nodes and clients reach it, such as `10.0.0.3:7400`.
    pub address: String,
}

/// All settings of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything durable lives.
    pub data_dir: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    pub listen: String,
    /// Address that others are told; by default the one listened on.
    pub advertise: Option<String>,
    /// Number of shards of a new cluster, fixed at its first start.
    pub shards: Option<u32>,
    /// Whether listening beyond this machine is wanted, although nothing authenticates callers yet.
    pub insecure: bool,
    /// This node's id among `members`; 1 when alone.
    pub node_id: Option<u64>,
    /// The founding members of a new cluster, alike on every one of them; empty: this node alone.
    pub members: Vec<Member>,
    /// Nodes of a cluster to join, or that wait for one to be founded; asked once, at the first start. Empty: this node
    /// founds a cluster of its own.
    pub join: Vec<String>,
    /// Records on their way at once; see [`admission::RECORDS_MAX`].
    pub records_in_flight_max: u32,
    /// Bytes on their way at once; see [`admission::BYTES_MAX`].
    pub bytes_in_flight_max: usize,
    /// Memory of the process beyond which usage is refused with a delay, bytes; 0: 85 % of the machine's or its control
    /// group's.
    pub memory_max_bytes: u64,
    /// Memory for the ids of producers without sequences, over all shards of the node, bytes.
    pub ids_bytes_max: u64,
    /// How long a leader's silence lasts before an election, at least, milliseconds; the most is twice that, and heartbeats
    /// come three times as often. By default what suits the number of shards.
    pub election_timeout_ms: Option<u64>,
    /// How often a leader looks for cycles that are due, milliseconds.
    pub cycle_interval_ms: u64,
    /// How often the replicas of each shard are compared, milliseconds; 0: only when an operator asks.
    pub check_interval_ms: u64,
    /// A graceful stop ends after this, whatever is left, milliseconds.
    pub stop_timeout_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("reckoner-data"),
            listen: LISTEN.to_owned(),
            advertise: None,
            shards: None,
            insecure: false,
            node_id: None,
            members: Vec::new(),
            join: Vec::new(),
            records_in_flight_max: admission::RECORDS_MAX,
            bytes_in_flight_max: admission::BYTES_MAX,
            memory_max_bytes: 0,
            ids_bytes_max: 1 << 30,
            election_timeout_ms: None,
            cycle_interval_ms: 1_000,
            check_interval_ms: 600_000,
            stop_timeout_ms: 10_000,
        }
    }
}

/// What the command line says; what is absent leaves the file's or the environment's word.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    pub data_dir: Option<PathBuf>,
    pub listen: Option<String>,
    pub advertise: Option<String>,
    pub shards: Option<u32>,
    pub insecure: bool,
    pub join: Vec<String>,
}

/// A setting that cannot be: one line that names what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct BadSetting {
    pub setting: &'static str,
    pub message: String,
}

/// A setting as the node would use it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub name: String,
    pub value: serde_json::Value,
    /// flag, environment, file or default: the first of them that has it.
    pub origin: &'static str,
}

fn file_source(file: &Path) -> config::File<config::FileSourceFile, config::FileFormat> {
    config::File::from(file).format(config::FileFormat::Toml)
}

fn environment() -> config::Environment {
    // A list is written with commas: RECKONER_NODE_JOIN=a:7400,b:7400.
    config::Environment::with_prefix(ENVIRONMENT_PREFIX)
        .try_parsing(true)
        .list_separator(",")
        .with_list_parse_key("join")
}

fn unreadable(error: config::ConfigError) -> BadSetting {
    bad("--config", format!("{error}; see the settings in README.md"))
}

fn bad(setting: &'static str, message: impl Into<String>) -> BadSetting {
    BadSetting { setting, message: message.into() }
}

impl Config {
    /// Reads defaults, `file`, the environment and `flags`, in this order, and checks the result.
    pub fn load(file: Option<&Path>, flags: Flags) -> Result<Config, BadSetting> {
        let mut sources = config::Config::builder();
        if let Some(file) = file {
            sources = sources.add_source(file_source(file));
        }
        let read = sources.add_source(environment()).build().and_then(|read| read.try_deserialize::<Config>());
        let mut config = read.map_err(unreadable)?;
        config.data_dir = flags.data_dir.unwrap_or(config.data_dir);
        config.listen = flags.listen.unwrap_or(config.listen);
        config.advertise = flags.advertise.or(config.advertise);
        config.shards = flags.shards.or(config.shards);
        config.insecure |= flags.insecure;
        if !flags.join.is_empty() {
            config.join = flags.join;
        }
        config.check()?;
        Ok(config)
    }

    /// Every setting with where its value comes from, by name.
    pub fn origins(file: Option<&Path>, flags: &Flags) -> Result<Vec<Setting>, BadSetting> {
        let config = Config::load(file, flags.clone())?;
        let in_file = file.map(|file| file_source(file).collect()).transpose().map_err(unreadable)?.unwrap_or_default();
        let in_environment = environment().collect().map_err(unreadable)?;
        let by_flag = [
            ("data_dir", flags.data_dir.is_some()),
            ("listen", flags.listen.is_some()),
            ("advertise", flags.advertise.is_some()),
            ("shards", flags.shards.is_some()),
            ("insecure", flags.insecure),
            ("join", !flags.join.is_empty()),
        ];
        let values = serde_json::to_value(&config).map_err(|error| bad("--config", error.to_string()))?;
        let settings = values.as_object().into_iter().flatten().map(|(name, value)| {
            let origin = if by_flag.contains(&(name.as_str(), true)) {
                "flag"
            } else if in_environment.contains_key(name) {
                "environment"
            } else if in_file.contains_key(name) {
                "file"
            } else {
                "default"
            };
            Setting { name: name.clone(), value: value.clone(), origin }
        });
        Ok(settings.collect())
    }

    /// Checks every setting by itself and against the others.
    pub fn check(&self) -> Result<(), BadSetting> {
        let address = self.listen_address()?;
        if !address.ip().is_loopback() && !self.insecure {
            return Err(bad(
                "--listen",
                format!(
                    "{address} can be reached from other machines and callers are not authenticated; listen on \
                     127.0.0.1, or add --insecure if the network is trusted"
                ),
            ));
        }
        if let Some(shards) = self.shards
            && !(1..=SHARDS_MAX).contains(&shards)
        {
            return Err(bad("--shards", format!("{shards} is not between 1 and {SHARDS_MAX}")));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(bad("--data-dir", "it is empty; name a directory"));
        }
        let positive = [
            ("records_in_flight_max", u64::from(self.records_in_flight_max)),
            ("bytes_in_flight_max", self.bytes_in_flight_max as u64),
            ("ids_bytes_max", self.ids_bytes_max),
            ("cycle_interval_ms", self.cycle_interval_ms),
            ("stop_timeout_ms", self.stop_timeout_ms),
        ];
        for (setting, value) in positive {
            if value == 0 {
                return Err(bad(setting, "it is 0; give it a positive number"));
            }
        }
        if let Some(election_ms) = self.election_timeout_ms
            && !(50..=60_000).contains(&election_ms)
        {
            let message = format!("{election_ms} is not between 50 and 60000");
            return Err(bad("election_timeout_ms", message));
        }
        self.check_join(address)?;
        self.check_members()
    }

    fn check_join(&self, address: SocketAddr) -> Result<(), BadSetting> {
        if self.join.is_empty() {
            return Ok(());
        }
        if !self.members.is_empty() || self.node_id.is_some() {
            let message = "a node that joins gets its id from the cluster; leave members and node_id out, or --join";
            return Err(bad("--join", message));
        }
        if let Some(seed) = self.join.iter().find(|seed| !seed.contains(':')) {
            return Err(bad("--join", format!("'{seed}' is no address; write it like {LISTEN}")));
        }
        if address.ip().is_unspecified() && self.advertise.is_none() {
            let message =
                format!("other nodes cannot reach {address}; say how they reach this one, like 10.0.0.3:7400");
            return Err(bad("--advertise", message));
        }
        Ok(())
    }

    fn check_members(&self) -> Result<(), BadSetting> {
        if self.members.is_empty() {
            return match self.node_id {
                None | Some(1) => Ok(()),
                Some(id) => Err(bad("node_id", format!("it is {id} and members is empty; list the founding members"))),
            };
        }
        let id = self.node_id.ok_or_else(|| bad("node_id", "members are listed; say which of them this node is"))?;
        if !self.members.iter().any(|member| member.id == id) {
            return Err(bad("node_id", format!("{id} is not among the members; use one of their ids")));
        }
        for (at, member) in self.members.iter().enumerate() {
            if member.id == 0 {
                return Err(bad("members", "0 is not a node id; count from 1"));
            }
            if member.address.is_empty() {
                return Err(bad("members", format!("member {} has no address", member.id)));
            }
            let twin = self.members[..at].iter().find(|m| m.id == member.id || m.address == member.address);
            if let Some(twin) = twin {
                let message = format!(
                    "members {} at {} and {} at {} share an id or an address; make them differ",
                    twin.id, twin.address, member.id, member.address
                );
                return Err(bad("members", message));
            }
        }
        Ok(())
    }

    /// The address to bind.
    pub fn listen_address(&self) -> Result<SocketAddr, BadSetting> {
        let words = |why: String| bad("--listen", format!("'{}' {why}; write it like {LISTEN}", self.listen));
        let mut found = self.listen.to_socket_addrs().map_err(|error| words(format!("is no address ({error})")))?;
        found.next().ok_or_else(|| words("names no address".to_owned()))
    }

    /// The founding members with their addresses, given the address that this node really has.
    pub fn founders(&self, own_address: &str) -> Vec<Member> {
        if self.members.is_empty() {
            return vec![Member { id: self.own_id(), address: own_address.to_owned() }];
        }
        self.members.clone()
    }

    /// This node's id.
    pub fn own_id(&self) -> u64 {
        self.node_id.unwrap_or(1)
    }

    /// The address that others are told, given the one that was bound.
    pub fn advertised(&self, bound: SocketAddr) -> String {
        if let Some(advertise) = &self.advertise {
            return advertise.clone();
        }
        if let Some(own) = self.members.iter().find(|member| Some(member.id) == self.node_id) {
            return own.address.clone();
        }
        // "Everywhere" is no address to call; on this machine loopback is.
        match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => format!("127.0.0.1:{}", bound.port()),
            IpAddr::V6(ip) if ip.is_unspecified() => format!("[::1]:{}", bound.port()),
            _ => bound.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Config), expected: Option<&str>) {
        let mut config = Config::default();
        change(&mut config);
        assert_eq!(config.check().err().map(|bad| bad.setting), expected, "{:?}", config.check());
    }

    fn member(id: u64, address: &str) -> Member {
        Member { id, address: address.to_owned() }
    }

    #[test]
    fn settings_are_checked() {
        check(|_| (), None);
        check(|c| c.listen = "127.0.0.1:0".into(), None);
        check(|c| c.listen = "0.0.0.0:7400".into(), Some("--listen"));
        check(
            |c| {
                c.listen = "0.0.0.0:7400".into();
                c.insecure = true;
            },
            None,
        );
        check(|c| c.listen = "7400".into(), Some("--listen"));
        check(|c| c.shards = Some(0), Some("--shards"));
        check(|c| c.shards = Some(257), Some("--shards"));
        check(|c| c.data_dir = PathBuf::new(), Some("--data-dir"));
        check(|c| c.node_id = Some(2), Some("node_id"));
        check(|c| c.members = vec![member(1, "a:1")], Some("node_id"));
        check(
            |c| {
                c.node_id = Some(2);
                c.members = vec![member(1, "a:1"), member(2, "a:1")];
            },
            Some("members"),
        );
        check(
            |c| {
                c.node_id = Some(2);
                c.members = vec![member(1, "a:1"), member(2, "a:2")];
            },
            None,
        );
        check(|c| c.election_timeout_ms = Some(1), Some("election_timeout_ms"));
        check(|c| c.join = vec!["a:1".into()], None);
        check(|c| c.join = vec!["a".into()], Some("--join"));
        check(
            |c| {
                c.node_id = Some(1);
                c.join = vec!["a:1".into()];
            },
            Some("--join"),
        );
        check(
            |c| {
                (c.listen, c.insecure) = ("0.0.0.0:7400".into(), true);
                c.join = vec!["a:1".into()];
            },
            Some("--advertise"),
        );
    }

    #[test]
    fn a_file_is_read_and_flags_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.toml");
        std::fs::write(
            &file,
            "listen = \"127.0.0.1:7500\"\nshards = 4\nnode_id = 2\n[[members]]\nid = 2\naddress = \"h:1\"\n",
        )
        .unwrap();
        let flags = Flags { shards: Some(2), ..Flags::default() };
        let config = Config::load(Some(&file), flags).unwrap();
        assert_eq!((config.listen.as_str(), config.shards), ("127.0.0.1:7500", Some(2)));
        assert_eq!(config.members, vec![member(2, "h:1")]);
        let origins = Config::origins(Some(&file), &Flags { shards: Some(2), ..Flags::default() }).unwrap();
        let origin = |name: &str| {
            let setting = origins.iter().find(|setting| setting.name == name).unwrap();
            (setting.value.to_string(), setting.origin)
        };
        assert_eq!(origin("shards"), ("2".to_owned(), "flag"));
        assert_eq!(origin("listen"), ("\"127.0.0.1:7500\"".to_owned(), "file"));
        assert_eq!(origin("stop_timeout_ms"), ("10000".to_owned(), "default"));
        std::fs::write(&file, "listne = \"127.0.0.1:7500\"\n").unwrap();
        let error = Config::load(Some(&file), Flags::default()).unwrap_err();
        assert!(error.to_string().contains("listne"), "{error}");
    }
}
