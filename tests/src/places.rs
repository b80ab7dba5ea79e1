//! Where three real processes run: on loopback, or, where the system permits it, each in a network of its own behind a
//! bridge, so that links can be cut one way and slowed down, and with one disk small enough to fill. All of it is made
//! inside namespaces of this process's own and goes with it.

use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

/// Set for the process that runs inside namespaces.
const INSIDE: &str = "RECKONER_TESTS_INSIDE";

/// Nodes.
pub const NODES: usize = 3;

/// The disk that can be filled.
const SMALL_DISK: &str = "size=384m";

/// Where the nodes are.
pub enum Places {
    /// On ports of this machine.
    Loopback { ports: Vec<u16> },
    /// In networks of their own.
    Spaces,
}

fn run(program: &str, line: &str) -> anyhow::Result<()> {
    let output = Command::new(program).args(line.split_whitespace()).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program} {line}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Whether this process runs inside namespaces of its own.
fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// This program again inside namespaces, with the same arguments; `None` where it is there already, or where that is not
/// permitted, which is then said.
pub fn enter() -> Option<io::Result<std::process::ExitStatus>> {
    if is_inside() {
        return None;
    }
    let spaces = ["--net", "--mount", "--propagation", "private"];
    let permitted = Command::new("unshare").args(spaces).arg("ip").arg("link").output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        println!("no namespaces are permitted here: links are not cut and no disk is filled");
        return None;
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return Some(Err(error)),
    };
    let mut command = Command::new("unshare");
    command.args(spaces).arg(program).args(std::env::args_os().skip(1)).env(INSIDE, "1");
    Some(command.status())
}

impl Places {
    /// Makes them.
    ///
    /// # Errors
    /// When a port or a network cannot be had.
    pub fn make() -> anyhow::Result<Places> {
        if !is_inside() {
            let held: Result<Vec<_>, _> = (0..NODES).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect();
            let ports: Result<Vec<u16>, _> =
                held?.iter().map(|listener| listener.local_addr().map(|at| at.port())).collect();
            return Ok(Places::Loopback { ports: ports? });
        }
        // `ip netns` keeps its names here.
        run("mount", "-t tmpfs tmpfs /run")?;
        run("ip", "link set lo up")?;
        run("ip", "link add bridge0 type bridge")?;
        run("ip", "addr add 10.77.0.254/24 dev bridge0")?;
        run("ip", "link set bridge0 up")?;
        for node in 1..=NODES {
            run("ip", &format!("netns add space{node}"))?;
            run("ip", &format!("link add outer{node} type veth peer name inner{node}"))?;
            run("ip", &format!("link set inner{node} netns space{node}"))?;
            run("ip", &format!("link set outer{node} master bridge0"))?;
            run("ip", &format!("link set outer{node} up"))?;
            run("ip", &format!("-n space{node} addr add 10.77.0.{node}/24 dev inner{node}"))?;
            run("ip", &format!("-n space{node} link set inner{node} up"))?;
            run("ip", &format!("-n space{node} link set lo up"))?;
        }
        Ok(Places::Spaces)
    }

    /// Whether links can be cut and a disk filled.
    pub fn has_spaces(&self) -> bool {
        matches!(self, Places::Spaces)
    }

    /// Where a node listens, from 1 on.
    pub fn address(&self, node: usize) -> String {
        match self {
            Places::Loopback { ports } => format!("127.0.0.1:{}", ports[node - 1]),
            Places::Spaces => format!("10.77.0.{node}:7400"),
        }
    }

    /// A command that runs `program` where the node is; it becomes that program, under the same id.
    pub fn command(&self, node: usize, program: &Path) -> Command {
        match self {
            Places::Loopback { .. } => Command::new(program),
            Places::Spaces => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/space{node}")).arg(program);
                command
            }
        }
    }

    /// A folder on a disk that can be filled.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small_disk(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder)?;
        if self.has_spaces() {
            run("mount", &format!("-t tmpfs -o {SMALL_DISK} tmpfs {}", folder.display()))?;
        }
        Ok(())
    }

    /// Takes that disk away, so that its folder can be removed.
    pub fn leave_disk(&self, folder: &Path) {
        if self.has_spaces()
            && let Err(error) = run("umount", &folder.display().to_string())
        {
            tracing::warn!(%error, "the small disk stays until this process ends");
        }
    }

    /// From now on, or no more, nothing that one node sends reaches another.
    ///
    /// # Errors
    /// When the route cannot be set.
    pub fn cut(&self, from: usize, to: usize, is_cut: bool) -> anyhow::Result<()> {
        let verb = if is_cut { "add" } else { "del" };
        run("ip", &format!("-n space{from} route {verb} blackhole 10.77.0.{to}/32"))
    }

    /// From now on, or no more, a node sends slowly and late.
    ///
    /// # Errors
    /// When the queue cannot be set.
    pub fn slow(&self, node: usize, is_slow: bool) -> anyhow::Result<()> {
        match is_slow {
            true => run(
                "tc",
                &format!("-n space{node} qdisc add dev inner{node} root tbf rate 400kbit burst 4kb latency 300ms"),
            ),
            false => run("tc", &format!("-n space{node} qdisc del dev inner{node} root")),
        }
    }
}
