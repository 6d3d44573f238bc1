//! The cluster settings.

use lockstep_proto::v1;
use lockstep_proto::v1::Settings;

use crate::client::{Client, required};
use crate::error::Error;
use crate::freshness::{Freshness, Read};
use crate::writes::{Call, Written};

/// New values for some of the cluster settings.
pub type UpdateSettingsCall = Call<Settings>;

impl<N: Into<String>> FromIterator<(N, u64)> for UpdateSettingsCall {
    fn from_iter<I: IntoIterator<Item = (N, u64)>>(values: I) -> Self {
        let values = values.into_iter().map(|(name, value)| (name.into(), value));
        let values = values.collect();
        Settings { values }.into()
    }
}

impl Client {
    /// The cluster settings.
    pub async fn settings(&self, freshness: impl Into<Freshness>) -> Result<Read<Settings>, Error> {
        let request = v1::GetSettingsRequest {
            freshness: Some(freshness.into().into()),
        };
        self.read(request, |answer| {
            Ok((required("settings", answer.settings)?, answer.read_at))
        })
        .await
    }

    /// Changes the cluster settings that the call names, all or none; the answer has all of them.
    ///
    /// ```no_run
    /// # async fn example(client: lockstep_client::Client) -> Result<(), lockstep_client::Error> {
    /// use lockstep_client::UpdateSettingsCall;
    ///
    /// let call = UpdateSettingsCall::from_iter([("events_max", 1_000_000)]);
    /// let written = client.update_settings(call).await?;
    /// println!("{:?}", written.made.values.get("events_max"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Rejected`] with `unknown_setting`, or with `invalid_setting` and the range; and those
    /// of every write.
    pub async fn update_settings(
        &self,
        call: UpdateSettingsCall,
    ) -> Result<Written<Settings>, Error> {
        self.write(call, |(settings, key)| v1::UpdateSettingsRequest {
            values: settings.values.into_iter().collect(),
            idempotency_key: key.map(|key| key.to_string()),
        })
        .await
    }
}
