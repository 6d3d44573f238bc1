//! `lockstep bench` without a cluster. With one, the end-to-end tests run it.

use lockstep_scripted::closed_port;

use crate::{failed, lockstep};

#[tokio::test]
async fn a_bench_that_makes_no_sense_is_a_usage_error_that_says_why() {
    for (arguments, words) in [
        ("--clients 0", "from 1 to 10000"),
        ("--clients 10001", "from 1 to 10000"),
        ("--rate 0", "from 1 to 10000000"),
        ("--rate 1.5", "from 1 to 10000000"),
        ("--mix write=1", "there is no operation \"write\""),
        ("--mix read=0", "the weight of read"),
        ("--mix read,read", "read appears twice"),
        ("--batch 0", "from 1 to 10000"),
        ("--batch 2 --mix read", "--mix has none"),
        ("--duration 0s", "--duration"),
        ("--duration 25h", "--duration"),
        ("--warm-up 25h", "--warm-up"),
        ("--clients 4 --instances 3", "at least 4"),
        ("--clients 4 --batch 5 --instances 19", "at least 20"),
        ("--via udp", "http, grpc, stream"),
        ("--via stream --http 127.0.0.1:3333", "--via http"),
        ("--connections 2", "gRPC"),
        ("--through leader --http 127.0.0.1:3333", "--http"),
        ("--http nowhere", "host:port"),
        ("--threads 0", "from 1 to 256"),
    ] {
        let dead = closed_port();
        let said = failed(&lockstep(&format!("bench -e {dead} {arguments}")).await, 2);
        assert!(said.contains(words), "{arguments}: {said}");
    }
}

#[tokio::test]
async fn a_bench_without_a_cluster_names_the_nodes_that_it_tried() {
    let dead = closed_port();
    let said = failed(
        &lockstep(&format!("bench -e {dead} --timeout 300ms")).await,
        3,
    );
    assert!(said.contains(&dead) && said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_plot_that_cannot_be_written_is_noticed_before_the_run() {
    let dead = closed_port();
    let said = failed(
        &lockstep(&format!("bench -e {dead} --plot /dev/null/x.svg")).await,
        3,
    );
    assert!(said.contains("cannot write /dev/null/x.svg"), "{said}");
}
