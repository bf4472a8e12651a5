variable "name" {
  description = "Name of the installation: prefix of everything that is made"
  type        = string
  default     = "sugar"
}

variable "region" {
  description = "Region of everything"
  type        = string
}

variable "domain" {
  description = "Zone of the public names api.DOMAIN and rt.DOMAIN"
  type        = string
}

variable "kubernetes_version" {
  description = "Version of the cluster's control plane"
  type        = string
  default     = "1.33"
}

variable "operators_networks" {
  description = "Networks (CIDR) from which the Kubernetes API is reached"
  type        = list(string)
  validation {
    condition     = !contains(var.operators_networks, "0.0.0.0/0")
    error_message = "The Kubernetes API is not for everybody."
  }
}

variable "groups" {
  description = "Node groups, whose names are their nodes' label `group`: machine type and how many; sized by the capacity plan for 100,000 people online"
  type = map(object({
    machine = string
    least   = number
    most    = number
  }))
  default = {
    # Ray: four nodes of eight cores, up to eight under load (cluster/k8s/kustomization.yaml).
    compute = { machine = "m7i.2xlarge", least = 4, most = 8 }
    # Sockets, Ray's head and what it keeps, operators, the edge.
    general = { machine = "m7i.xlarge", least = 4, most = 6 }
    # Kafka's brokers and controllers, PostgreSQL's three instances and the read model, which needs memory.
    data = { machine = "r7i.2xlarge", least = 7, most = 7 }
  }
}
