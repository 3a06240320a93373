use runtrail_audit::{ReservationRequest, Result, rules};
use runtrail_db::Row;
use runtrail_entity::budget_reservation::{Column, Entity, Model};
use sea_orm::EntityName;

use super::RowDecoder;

/// Encodes a request as the row of an open reservation. The statement that inserts it sets its
/// time.
pub(crate) fn encode_reservation(
    request: &ReservationRequest,
    owner_id: Option<&str>,
) -> Result<Model> {
    rules::reservation(request)?;
    Ok(Model {
        id: request.id.clone(),
        owner_id: owner_id.map(str::to_owned),
        run_id: request.run_id.clone(),
        caller_id: request.caller_id.clone(),
        skill_id: request.skill_id.clone(),
        channel_id: request.channel_id.clone(),
        tokens: rules::amount("tokens", request.amount.tokens)?,
        cost_micros: rules::amount("cost_micros", request.amount.cost_micros)?,
        reserved_at: 0,
        closed_at: None,
        actual_tokens: None,
        actual_cost_micros: None,
    })
}

/// Reads all columns of a reservation; fails if one has the wrong type.
pub(crate) fn read_reservation(mut row: Row) -> Result<Model> {
    let decoder = |id| RowDecoder {
        table: Entity.table_name(),
        id,
    };
    let id: String = decoder("?").take(&mut row, Column::Id)?;
    let decoder = decoder(&id);
    Ok(Model {
        owner_id: decoder.take(&mut row, Column::OwnerId)?,
        run_id: decoder.take(&mut row, Column::RunId)?,
        caller_id: decoder.take(&mut row, Column::CallerId)?,
        skill_id: decoder.take(&mut row, Column::SkillId)?,
        channel_id: decoder.take(&mut row, Column::ChannelId)?,
        tokens: decoder.take(&mut row, Column::Tokens)?,
        cost_micros: decoder.take(&mut row, Column::CostMicros)?,
        reserved_at: decoder.take(&mut row, Column::ReservedAt)?,
        closed_at: decoder.take(&mut row, Column::ClosedAt)?,
        actual_tokens: decoder.take(&mut row, Column::ActualTokens)?,
        actual_cost_micros: decoder.take(&mut row, Column::ActualCostMicros)?,
        id,
    })
}

/// Whether a stored reservation was made by this request, whoever its owner is.
pub(crate) fn is_same_request(row: &Model, stored: &Model) -> bool {
    fn request(row: &Model) -> (&str, Option<&str>, [&str; 3], [i64; 2]) {
        (
            &row.id,
            row.run_id.as_deref(),
            [&row.caller_id, &row.skill_id, &row.channel_id],
            [row.tokens, row.cost_micros],
        )
    }
    request(row) == request(stored)
}
