locals {
  buckets = { data = var.data_bucket, staging = var.staging_bucket }
}

# Terraform deletes neither as long as anything lies in it.
resource "aws_s3_bucket" "this" {
  for_each = local.buckets

  bucket        = each.value
  force_destroy = false
  tags          = var.tags
}

resource "aws_s3_bucket_public_access_block" "this" {
  for_each = local.buckets

  bucket                  = aws_s3_bucket.this[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id
  policy = module.policy.bucket_policies[each.key]

  depends_on = [aws_s3_bucket_public_access_block.this]
}

# A worker may put chunks, and so could put something else in a chunk's place: Icechunk writes every chunk once, under a
# name of its own, but does not say so in its request, and so S3 cannot insist. Versions keep what was there. They cost what garbage collection deletes
# and branches replace, for `deleted_days`. In staging they keep what the metadata of the runtime was,
# and for `jobs_days` calls and results, which Lithops deletes at the end of a run.
resource "aws_s3_bucket_versioning" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "data" {
  bucket = aws_s3_bucket.this["data"].id

  rule {
    id     = "uploads-that-were-given-up"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  rule {
    id     = "what-was-deleted-or-replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.deleted_days
    }

    # What says that something was deleted goes once nothing is left of it. Nothing else expires by this.
    expiration {
      expired_object_delete_marker = true
    }
  }

  # Run directories alone: objects of repositories never expire.
  dynamic "rule" {
    for_each = module.policy.run_prefixes

    content {
      id     = "runs-${rule.key}"
      status = "Enabled"

      filter {
        prefix = rule.value
      }

      expiration {
        days = var.runs_days
      }
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_bucket_lifecycle_configuration" "staging" {
  bucket = aws_s3_bucket.this["staging"].id

  # Not lithops.runtimes/: without the metadata there, Lithops would make the functions anew.
  rule {
    id     = "calls-and-results"
    status = "Enabled"

    filter {
      prefix = "lithops.jobs/"
    }

    expiration {
      days = var.jobs_days
    }
  }

  rule {
    id     = "what-was-deleted-or-replaced"
    status = "Enabled"

    filter {}

    noncurrent_version_expiration {
      noncurrent_days = var.jobs_days
    }
  }

  rule {
    id     = "uploads-that-were-given-up"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

resource "aws_s3_object" "metadata" {
  for_each = module.policy.metadata_keys

  bucket       = aws_s3_bucket.this["staging"].id
  key          = each.value
  content      = module.policy.metadata
  content_type = "application/json"

  lifecycle {
    ignore_changes = [content, content_type, tags_all] # `frazil runtime deploy` puts what the image itself says
  }
}
