/// Defines the cases of a module, and a macro that passes their names to another macro.
macro_rules! cases {
    (
        ($dollar:tt) $trait:ident, $list:ident: $module:ident
        $($(#[$meta:meta])* async fn $name:ident($cx:ident) $body:block)*
    ) => {
        $(
            /// Checks what its name says.
            ///
            $(#[$meta])*
            pub async fn $name<S: runtrail_audit::$trait + ?Sized>(
                $cx: &$crate::Context<'_, S>,
            ) $body
        )*

        #[doc(hidden)]
        #[macro_export]
        macro_rules! $list {
            ($dollar callback:ident) => {
                $dollar callback! { $module: $($name)* }
            };
        }
    };
}

/// Calls a macro once for each module of cases over [`Storage`](runtrail_audit::Storage), as
/// `callback! { module: case case … }`. See the [crate's example](crate).
#[macro_export]
macro_rules! storage_cases {
    ($callback:ident) => {
        $crate::append_log_cases!($callback);
        $crate::start_run_cases!($callback);
        $crate::finish_run_cases!($callback);
        $crate::counts_cases!($callback);
        $crate::filters_cases!($callback);
        $crate::lists_cases!($callback);
        $crate::last_run_cases!($callback);
        $crate::lineage_cases!($callback);
        $crate::purge_cases!($callback);
        $crate::identifiers_cases!($callback);
        $crate::json_cases!($callback);
        $crate::limits_cases!($callback);
        $crate::numbers_cases!($callback);
        $crate::texts_cases!($callback);
        $crate::times_cases!($callback);
        $crate::usage_cases!($callback);
    };
}

/// Calls a macro once for each module of cases over [`History`](runtrail_audit::History), apart
/// from those of [`storage_cases!`], as `callback! { module: case case … }`.
#[macro_export]
macro_rules! history_cases {
    ($callback:ident) => {
        $crate::append_logs_cases!($callback);
        $crate::budgets_cases!($callback);
        $crate::create_run_cases!($callback);
        $crate::ids_cases!($callback);
        $crate::labels_cases!($callback);
        $crate::measured_purge_cases!($callback);
        $crate::pages_cases!($callback);
        $crate::run_owners_cases!($callback);
        $crate::staging_cases!($callback);
        $crate::statistics_cases!($callback);
        $crate::streams_cases!($callback);
        $crate::subtree_cases!($callback);
        $crate::usage_totals_cases!($callback);
        $crate::watch_cases!($callback);
    };
}
