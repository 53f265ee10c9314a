//! The endpoints of files, and of work that goes on after its request.

use http::Method;

use super::{
    kept::{Act, Kind},
    table::{Does, Row, Work, kept, row},
};

const fn work(path: &'static str, work: Work) -> Row {
    let (_, name) = path.split_at(1);
    row(Method::POST, path, name, Does::Work(work))
}

const fn get(path: &'static str, name: &'static str) -> Row {
    kept(Method::GET, path, name, Act::Read)
}

const fn change(path: &'static str, name: &'static str) -> Row {
    kept(Method::POST, path, name, Act::Change)
}

const fn delete(path: &'static str, name: &'static str) -> Row {
    kept(Method::DELETE, path, name, Act::Delete)
}

const fn list(path: &'static str, name: &'static str, kind: Kind) -> Row {
    kept(Method::GET, path, name, Act::List(kind))
}

/// Bills by what nobody here can count: sessions, days of storage, models that others' data choose.
const fn refused(path: &'static str) -> Row {
    row(Method::POST, path, "refused", Does::Refused)
}

pub(crate) static ROWS: &[Row] = &[
    work("/files", Work::File),
    list("/files", "files/list", Kind::File),
    get("/files/{file}", "files/get"),
    get("/files/{file}/content", "files/content"),
    delete("/files/{file}", "files/delete"),
    work("/uploads", Work::Upload),
    change("/uploads/{upload}/parts", "uploads/parts"),
    change("/uploads/{upload}/complete", "uploads/complete"),
    change("/uploads/{upload}/cancel", "uploads/cancel"),
    work("/batches", Work::Batch),
    list("/batches", "batches/list", Kind::Batch),
    get("/batches/{batch}", "batches/get"),
    change("/batches/{batch}/cancel", "batches/cancel"),
    work("/messages/batches", Work::MessageBatch),
    list(
        "/messages/batches",
        "messages/batches/list",
        Kind::MessageBatch,
    ),
    get("/messages/batches/{message_batch}", "messages/batches/get"),
    get(
        "/messages/batches/{message_batch}/results",
        "messages/batches/results",
    ),
    change(
        "/messages/batches/{message_batch}/cancel",
        "messages/batches/cancel",
    ),
    delete(
        "/messages/batches/{message_batch}",
        "messages/batches/delete",
    ),
    work("/videos", Work::Video),
    list("/videos", "videos/list", Kind::Video),
    get("/videos/{video}", "videos/get"),
    get("/videos/{video}/content", "videos/content"),
    delete("/videos/{video}", "videos/delete"),
    row(
        Method::POST,
        "/videos/{video}/remix",
        "videos/remix",
        Does::Work(Work::Remix),
    ),
    work("/fine_tuning/jobs", Work::Tuning),
    list(
        "/fine_tuning/jobs",
        "fine_tuning/jobs/list",
        Kind::TuningJob,
    ),
    get("/fine_tuning/jobs/{tuning_job}", "fine_tuning/jobs/get"),
    get(
        "/fine_tuning/jobs/{tuning_job}/events",
        "fine_tuning/jobs/events",
    ),
    get(
        "/fine_tuning/jobs/{tuning_job}/checkpoints",
        "fine_tuning/jobs/checkpoints",
    ),
    change(
        "/fine_tuning/jobs/{tuning_job}/cancel",
        "fine_tuning/jobs/cancel",
    ),
    change(
        "/fine_tuning/jobs/{tuning_job}/pause",
        "fine_tuning/jobs/pause",
    ),
    change(
        "/fine_tuning/jobs/{tuning_job}/resume",
        "fine_tuning/jobs/resume",
    ),
    refused("/videos/edits"),
    refused("/videos/extensions"),
    refused("/videos/characters"),
    refused("/fine_tuning/alpha/graders/run"),
    refused("/fine_tuning/checkpoints/{id}/permissions"),
    refused("/evals"),
    refused("/evals/{id}/runs"),
    refused("/assistants"),
    refused("/threads"),
    refused("/threads/runs"),
    refused("/threads/{id}/runs"),
    refused("/threads/{id}/runs/{id}/submit_tool_outputs"),
    refused("/vector_stores"),
    refused("/containers"),
];
