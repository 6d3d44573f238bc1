//! A server with standbys.

use anyhow::{Result, ensure};

use super::{ADMINISTRATOR, DATABASE, PASSWORD, Postgres, READY_DEADLINE, finish};
use crate::wait::wait_for;

/// A server whose commits wait until they are flushed to its disk and to that of any of its standbys.
pub struct Replicated {
    /// The server that takes writes.
    pub primary: Postgres,
    /// The others.
    pub standbys: Vec<Postgres>,
}

impl Replicated {
    /// Starts them with further settings, and otherwise as they are by default.
    pub async fn start(standbys: usize, settings: &[&str]) -> Result<Self> {
        let mut primary = Postgres::lay_out(settings)?;
        primary.segment_mib = 16;
        primary.set_up().await?;
        let mut started = Vec::new();
        let names: Vec<_> = (1..=standbys).map(|n| format!("standby{n}")).collect();
        for name in &names {
            started.push(primary.start_standby(name, settings).await?);
        }
        let administrator = primary.administrator().await?;
        let any = format!("ANY 1 ({})", names.join(", "));
        for statement in [
            format!("ALTER SYSTEM SET synchronous_standby_names = '{any}'"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            // Each alone: ALTER SYSTEM takes no transaction.
            administrator.batch_execute(&statement).await?;
        }
        wait_for("the standbys to follow", READY_DEADLINE, async || {
            let following = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
            let count: i64 = administrator.query_one(following, &[]).await?.get(0);
            ensure!(count == standbys as i64, "{count} of them do");
            Ok(())
        })
        .await?;
        Ok(Self {
            primary,
            standbys: started,
        })
    }
}

impl Postgres {
    /// Starts a copy that follows this server.
    async fn start_standby(&self, name: &str, settings: &[&str]) -> Result<Self> {
        let mut standby = Self::lay_out(settings)?;
        standby.own(standby.folder.path())?;
        let primary = format!(
            "host=127.0.0.1 port={} user={ADMINISTRATOR} password='{PASSWORD}' application_name={name}",
            self.port()
        );
        let mut command = standby.command("pg_basebackup");
        command
            .args([
                "--write-recovery-conf",
                "--checkpoint=fast",
                "--wal-method=stream",
            ])
            .args(["--dbname", &primary, "--pgdata"])
            .arg(standby.data());
        finish(&mut command)?;
        standby.run().await?;
        standby.connect(ADMINISTRATOR, DATABASE).await?;
        Ok(standby)
    }
}
