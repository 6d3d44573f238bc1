//! `next`: successes and rejections.

use anyhow::Result;
use lockstep_tests::cluster::Cluster;
use serde_json::json;

use super::{assert_fields, endpoints, error, lockstep};

#[tokio::test(flavor = "multi_thread")]
async fn next_makes_a_transition_and_every_rejection_says_why_and_exits_1() -> Result<()> {
    let cluster = Cluster::start().await?;
    let all = endpoints(&cluster, 0..3);
    let api = cluster.nodes[0].api();

    assert_eq!(
        lockstep(&["next", "third", "-e", &all]).await?.done()?,
        "third\n"
    );
    assert_eq!(api.instance().await?, ("third".to_owned(), 1));

    let said = lockstep(&["next", "second", "-e", &all]).await?.failed(1)?;
    assert!(
        said.starts_with("lockstep: ") && said.contains(r#"allowed from "third": first"#),
        "{said}"
    );
    let rejected = error(
        &lockstep(&["next", "second", "-e", &all, "-o", "json"])
            .await?
            .failed(1)?,
    )?;
    assert_fields(
        &rejected,
        json!({
            "code": "illegal_transition", "current_state": "third", "current_revision": 1,
            "allowed": ["first"], "replayed": false,
        }),
    );

    for (arguments, part) in [
        (&["next", "fourth"][..], "fourth"),
        (&["next", "first", "-i", "triad/none"], "triad/none"),
        (&["next", "first", "-i", "none/default"], "none"),
        (&["get", "triad/none"], "triad/none"),
        (&["next", "first", "--expect-state", "second"], "third"),
        (&["next", "first", "--expect-revision", "7"], "7"),
    ] {
        let said = lockstep(&[arguments, &["-e", &all]].concat())
            .await?
            .failed(1)?;
        assert!(
            said.contains(part),
            "{arguments:?}: {part:?} is not named: {said}"
        );
    }
    assert_eq!(api.instance().await?, ("third".to_owned(), 1));

    // What is expected and holds is no hindrance, and the same key is one move.
    let keyed = "next first --expect-state third --expect-revision 1 --key order-42 -o json -e";
    let keyed: Vec<_> = keyed.split(' ').chain([all.as_str()]).collect();
    let moved = lockstep(&keyed).await?.json()?;
    assert_fields(
        &moved,
        json!({
            "instance": "triad/default", "from": "third", "state": "first", "revision": 2,
            "replayed": false,
        }),
    );
    assert_eq!(
        lockstep(&["next", "second", "-e", &all]).await?.done()?,
        "second\n"
    );
    let mut again = lockstep(&keyed).await?.json()?;
    assert_eq!(again["replayed"], true);
    again["replayed"] = false.into();
    assert_eq!(again, moved, "the stored outcome");
    assert_eq!(api.instance().await?, ("second".to_owned(), 3));
    Ok(())
}
