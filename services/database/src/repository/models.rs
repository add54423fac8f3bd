//! Models.

use super::{Committed, Query, Repository, Row, outbox::Entity};
use crate::{
    entities::Model,
    error::Error,
    page::{Page, PageRequest, Position},
    params,
};

impl Model {
    fn read(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            id: row.text("id")?,
            display_name: row.text("display_name")?,
            context_tokens: row.small("context_tokens")?,
            updated_at: row.micros("updated_at")?,
        })
    }
}

impl Repository {
    /// Creates or replaces a model; its time is set here.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_model(&self, model: Model) -> Result<Committed<Model>, Error> {
        let put = self.write("", move |work| {
            Box::pin(async move {
                let model = Model { updated_at: work.now, ..model };
                let values = params![&model.id, &model.display_name, model.context_tokens, model.updated_at];
                work.execute(Query::ModelPut, values).await?;
                work.owe_invalidation(Entity::Model, &model.id);
                Ok(model)
            })
        });
        put.await
    }

    /// One model.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn model(&self, id: &str) -> Result<Option<Model>, Error> {
        self.read_one(Query::ModelGet, params![id]).await?.as_ref().map(Model::read).transpose()
    }

    /// Models by id.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_models(&self, page: &PageRequest) -> Result<Page<Model>, Error> {
        let rows = self.read(Query::ModelList, params![&page.after.text, page.size + 1]).await?;
        let models = rows.iter().map(Model::read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(models, page.size, |model| Position { number: 0, text: model.id.clone() }))
    }

    /// Deletes a model. There need not be one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_model(&self, id: String) -> Result<Committed<()>, Error> {
        let deleted = self.write("", move |work| {
            Box::pin(async move {
                if work.execute(Query::ModelDelete, params![&id]).await? > 0 {
                    work.owe_invalidation(Entity::Model, &id);
                }
                Ok(())
            })
        });
        deleted.await
    }
}
