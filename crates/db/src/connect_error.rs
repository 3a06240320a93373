use sea_orm::DbErr;

/// The result of every call that opens a database.
pub type Result<T, E = ConnectError> = std::result::Result<T, E>;

/// Why a database can't be opened. No message contains a password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The database URL can't be used.
    #[error("the database URL {reason}")]
    InvalidUrl {
        /// What is wrong with it, as a phrase that follows "the database URL".
        reason: &'static str,
    },
    /// A SQLite file doesn't exist and must not be created.
    #[error("there is no such file")]
    NoSuchFile,
    /// A SQLite file can't be created.
    #[error("the file can't be created")]
    NotCreated(#[source] std::io::Error),
    /// The path of a SQLite file can't be used.
    #[error("the file can't be used")]
    NotUsable(#[source] std::io::Error),
    /// The database refused or failed.
    #[error("the database failed")]
    Database(#[from] DbErr),
}
