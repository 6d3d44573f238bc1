//! Nodes that return at other addresses: the cluster finds them, and its membership stays as it is.

use anyhow::Result;
use lockstep_tests::cluster::Cluster;
use reqwest::StatusCode;

#[tokio::test]
async fn nodes_that_all_return_at_other_addresses_form_their_cluster_again() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    let before = cluster.nodes[0].api().cluster().await?;
    for node in &mut cluster.nodes {
        node.terminate().await?;
        node.move_away()?;
    }
    cluster.tell_peers();
    cluster.start_all()?;
    cluster.wait_ready().await?;
    cluster.nodes[0]
        .api()
        .next("second")
        .await?
        .expect(StatusCode::OK)?;
    let after = cluster.nodes[0].api().cluster().await?;
    assert_eq!(after.cluster_id, before.cluster_id);
    cluster.agree().await
}
