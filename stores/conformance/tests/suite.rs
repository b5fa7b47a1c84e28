//! The crate's own stores pass.

mod model {
    larder_conformance::suite!(async |setup| larder_conformance::Model::with(setup));
}

mod whole_model {
    larder_conformance::suite!(async |setup| larder_conformance::Model::with(setup).whole());
}

mod lazy_model {
    larder_conformance::suite!(async |setup| larder_conformance::Model::with(setup).lazy());
}

mod boxed_model {
    use larder_conformance::{Model, Setup};
    use larder_store::Store;

    async fn make(setup: Setup) -> Box<dyn Store> {
        Box::new(Model::with(setup))
    }

    larder_conformance::suite!(make);
}

mod shared_model {
    use std::sync::Arc;

    use larder_conformance::{Model, Setup};
    use larder_store::Store;

    async fn make(setup: Setup) -> Arc<dyn Store> {
        Arc::new(Model::with(setup))
    }

    larder_conformance::suite!(make);
}

mod faulty_model {
    use larder_conformance::{Faulty, Model, Setup};

    async fn make(setup: Setup) -> Faulty<Model> {
        Faulty::new(Model::with(setup))
    }

    larder_conformance::suite!(make);
}

mod faulty_lazy_model {
    use larder_conformance::{Faulty, Model, Setup};

    async fn make(setup: Setup) -> Faulty<Model> {
        Faulty::new(Model::with(setup).lazy())
    }

    larder_conformance::suite!(make);
}

/// Not durable, but the reopening half of the clauses runs: the same store goes on.
mod reopened_model {
    use larder_conformance::{Model, Setup};

    async fn make(setup: Setup) -> Model {
        Model::with(setup)
    }

    async fn reopen(store: Model) -> Model {
        store
    }

    larder_conformance::suite!(make, reopen = reopen);
}
