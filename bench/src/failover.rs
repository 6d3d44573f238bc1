//! How long writes stop when the leader is killed, over ten kills.
//!
//! Three processes on loopback. A writer asks a follower for one move after the other, each under
//! a key of its own, and repeats what is not acknowledged. The leader is killed with SIGKILL; the
//! gap is the longest time that the writer went without an acknowledgement. The killed node is
//! started again before the next round. The writer checks every revision: a move that was lost or
//! made twice ends the run with an error.

use std::time::Duration;

use anyhow::{Result, ensure};
use lockstep_tests::cluster::Cluster;
use lockstep_tests::traffic::Writer;

const KILLS: usize = 10;
/// Moves acknowledged before each kill, and after it.
const MOVES_AROUND: u64 = 200;
const DEADLINE: Duration = Duration::from_secs(30);

pub async fn run() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let mut gaps = Vec::with_capacity(KILLS);
    let mut moves = 0;
    println!("kill  gap");
    for kill in 1..=KILLS {
        let (leader, follower) = cluster.leader_and_follower().await?;
        let writer = Writer::persistent(cluster.nodes[follower].api()).await?;
        writer.wait_for_more(MOVES_AROUND, DEADLINE).await?;
        cluster.nodes[leader].kill9()?;
        writer.wait_for_more(MOVES_AROUND, DEADLINE).await?;
        let written = writer.finish().await?;
        moves += written.acknowledged;
        ensure!(
            written.revision == moves,
            "{moves} moves were acknowledged, the instance is at revision {}",
            written.revision
        );
        println!("{kill:>4}  {:>4} ms", written.longest_gap.as_millis());
        gaps.push(written.longest_gap);
        cluster.nodes[leader].restart().await?;
        cluster.agree().await?;
    }
    gaps.sort();
    println!(
        "shortest {} ms, median {} ms, longest {} ms; {moves} moves acknowledged, none lost, none made twice",
        gaps[0].as_millis(),
        (gaps[KILLS / 2 - 1] + gaps[KILLS / 2]).as_millis() / 2,
        gaps[KILLS - 1].as_millis(),
    );
    Ok(())
}
