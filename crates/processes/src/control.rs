//! What people and programs ask about processes and of them. Any process may: wishes go through the database to the one
//! that manages.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use core_config::settings::Settings;
use core_types::process::ProcessName;
use futures_util::stream::{self, StreamExt as _};
use launcher::{
    error::AttachError,
    handle::{Handle, HandleRecord},
    launcher::Launcher,
};
use store::{
    agents::HostId,
    error::StoreError,
    pool::Store,
    processes::{Manager, ProcessRow, Wish},
};
use tokio::time::timeout;

use crate::{
    desired::{desired, settings_want, why_skipped},
    info::{Known, ProcessInfo, Usage},
    tail::last_lines,
};

/// How many launches are looked at together.
const LOOKS: usize = 4;
/// How long a look at one may take.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Asks about processes and of them. Clones share everything.
#[derive(Debug, Clone)]
pub struct Control {
    /// The database.
    pub store: Store,
    /// The launches of this host.
    pub launcher: Arc<dyn Launcher>,
    /// This host.
    pub host: HostId,
    /// Whether this process manages whenever nobody else does.
    pub may_manage: bool,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// How the process stands now.
    pub process: ProcessInfo,
    /// Why nothing was noted, where there is no place for the process.
    pub skipped: Option<&'static str>,
}

/// Why nothing was asked of a process.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody would follow the wish.
    #[error("no api-server manages processes")]
    NoManager,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The end of what a process wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogTail {
    /// The launch that wrote it; absent before the first.
    pub launch: Option<String>,
    /// The lines, the oldest first.
    pub lines: Vec<String>,
}

/// Why the end of a log cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum LogTailError {
    /// It lies on another host.
    #[error("its log lies on the host `{host}`")]
    OtherHost {
        /// That host.
        host: HostId,
    },
    /// The launch cannot be looked at.
    #[error("log not read")]
    Attach(#[source] AttachError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the database says of all processes at one time.
#[derive(Debug)]
struct Overview {
    wishes: BTreeMap<ProcessName, Wish>,
    /// The row that counts for each name.
    rows: BTreeMap<ProcessName, ProcessRow>,
    is_managed: bool,
}

impl Overview {
    fn known(&self, name: ProcessName, settings: &Settings) -> Known<'_> {
        let wish = self.wishes.get(&name).copied().unwrap_or_default();
        Known {
            name,
            row: self.rows.get(&name),
            wish,
            desired: desired(name, wish.wanted, settings),
            skipped: why_skipped(name, settings),
            is_managed: self.is_managed,
        }
    }
}

impl Control {
    /// How the processes stand that run, ran or are wanted, the dispatcher first.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn list(&self, settings: &Settings) -> Result<Vec<ProcessInfo>, StoreError> {
        let overview = self.overview().await?;
        let known = ProcessName::all().map(|name| overview.known(name, settings));
        let looks: Vec<_> = known
            .filter(Known::is_of_interest)
            .map(|known| self.look(known.row.cloned(), known.info()))
            .collect();
        Ok(stream::iter(looks).buffered(LOOKS).collect().await)
    }

    /// How one process stands.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn show(
        &self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<ProcessInfo, StoreError> {
        let overview = self.overview().await?;
        let known = overview.known(name, settings);
        Ok(self.look(known.row.cloned(), known.info()).await)
    }

    /// Who manages at this moment.
    ///
    /// # Errors
    /// [`StoreError`] when the database fails.
    pub async fn manager(&self) -> Result<Option<Manager>, StoreError> {
        self.store.process_manager().await
    }

    /// Wants a process to run. What held it up is forgotten.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was noted.
    pub async fn start(
        &self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<Asked, ControlError> {
        if let Some(skipped) = self.skipped(name, settings).await? {
            return Ok(skipped);
        }
        self.expect_manager().await?;
        self.store.wish_start(name).await?;
        Ok(Asked { process: self.show(name, settings).await?, skipped: None })
    }

    /// Wants a process not to run.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was noted.
    pub async fn stop(
        &self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<Asked, ControlError> {
        self.expect_manager().await?;
        self.store.wish_stop(name).await?;
        Ok(Asked { process: self.show(name, settings).await?, skipped: None })
    }

    /// Wants a process to end and to run again.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was noted.
    pub async fn restart(
        &self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<Asked, ControlError> {
        if let Some(skipped) = self.skipped(name, settings).await? {
            return Ok(skipped);
        }
        self.expect_manager().await?;
        self.store.wish_restart(name, settings_want(name, settings)).await?;
        Ok(Asked { process: self.show(name, settings).await?, skipped: None })
    }

    /// Wants no process to run, and tells how each one that was ever launched stood before.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was noted.
    pub async fn stop_all(&self, settings: &Settings) -> Result<Vec<ProcessInfo>, ControlError> {
        self.expect_manager().await?;
        // As they were before: one that ends at once was stopped all the same. What was never launched is not there
        // to be stopped, however much the settings want it.
        let mut launched = self.list(settings).await?;
        launched.retain(|process| process.generation.is_some());
        let all: Vec<ProcessName> = ProcessName::all().collect();
        self.store.wish_stop_all(&all).await?;
        Ok(launched)
    }

    /// Wants what the settings say, and nothing else.
    ///
    /// # Errors
    /// [`ControlError`]; nothing was noted.
    pub async fn start_all(&self, settings: &Settings) -> Result<Vec<ProcessInfo>, ControlError> {
        self.expect_manager().await?;
        self.store.wish_settings_for_all().await?;
        Ok(self.list(settings).await?)
    }

    /// The last lines that the present launch of a process wrote, or the last launch.
    ///
    /// # Errors
    /// [`LogTailError`] where they cannot be read here.
    pub async fn log(&self, name: ProcessName, count: usize) -> Result<LogTail, LogTailError> {
        let Some(row) = self.overview().await?.rows.remove(&name) else {
            return Ok(LogTail { launch: None, lines: Vec::new() });
        };
        if row.host != self.host {
            return Err(LogTailError::OtherHost { host: row.host });
        }
        let lines = match self.handle(&row).await {
            Some(Ok(handle)) => last_lines(&handle, count).await,
            // Its directory was cleared away, or it was never launched.
            Some(Err(AttachError::Gone { .. })) | None => Vec::new(),
            Some(Err(error)) => return Err(LogTailError::Attach(error)),
        };
        Ok(LogTail { launch: Some(row.launch), lines })
    }

    async fn overview(&self) -> Result<Overview, StoreError> {
        let manager = self.store.process_manager().await?;
        let wishes = self.store.process_wishes().await?;
        let host = manager.as_ref().map_or(&self.host, |manager| &manager.host);
        let mut rows: BTreeMap<ProcessName, ProcessRow> = BTreeMap::new();
        // The newest first: one of the managing host counts, else the newest.
        for row in self.store.processes().await? {
            let better =
                rows.get(&row.name).is_none_or(|known| known.host != *host && row.host == *host);
            if better {
                rows.insert(row.name, row);
            }
        }
        Ok(Overview { wishes, rows, is_managed: manager.is_some() || self.may_manage })
    }

    async fn skipped(
        &self,
        name: ProcessName,
        settings: &Settings,
    ) -> Result<Option<Asked>, StoreError> {
        let Some(why) = why_skipped(name, settings) else {
            return Ok(None);
        };
        Ok(Some(Asked { process: self.show(name, settings).await?, skipped: Some(why) }))
    }

    async fn expect_manager(&self) -> Result<(), ControlError> {
        if self.may_manage || self.store.process_manager().await?.is_some() {
            return Ok(());
        }
        Err(ControlError::NoManager)
    }

    /// Adds what a look at the launch shows.
    async fn look(&self, row: Option<ProcessRow>, mut info: ProcessInfo) -> ProcessInfo {
        let live = row.filter(|row| row.state.is_live() && row.host == self.host);
        if let Some(row) = live
            && let Ok(Some(Ok(handle))) = timeout(LOOK_WITHIN, self.handle(&row)).await
            && let Ok(Ok(stats)) = timeout(LOOK_WITHIN, handle.stats()).await
        {
            info.pid = stats.leader_pid.or(info.pid);
            info.uptime = Some(stats.uptime);
            let (memory_bytes, cpu, processes) = (stats.memory_bytes, stats.cpu, stats.processes);
            info.usage = Some(Usage { memory_bytes, cpu, processes });
        }
        info
    }

    /// The launch of a row; nothing where it was not accepted yet.
    async fn handle(&self, row: &ProcessRow) -> Option<Result<Handle, AttachError>> {
        let record: HandleRecord = serde_json::from_value(row.record.clone()?).ok()?;
        Some(self.launcher.attach(&record).await)
    }
}
